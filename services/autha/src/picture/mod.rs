//! Pictures: taking uploads, what becomes of them, the sweeper. Nothing here decodes one; that is spinoza's.

pub mod header;
mod replace;
pub mod results;
pub mod status;
pub mod sweeper;

pub use replace::{NewUpload, remove, replace};

/// The prefix of every picture's key: `avatars/{account}/{upload}/...`.
pub const PREFIX: &str = "avatars/";

/// The largest upload.
pub const MAX_BYTES: u64 = 10 * 1024 * 1024;
