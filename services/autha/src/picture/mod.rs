//! Pictures: taking uploads, what becomes of them, the sweeper. Nothing here decodes one; that is spinoza's.

pub mod delivery;
pub mod incoming;
pub mod placeholder;
mod replace;
pub mod results;
pub mod status;
pub mod sweeper;

pub use replace::{NewUpload, RemoveAvatar, ReplaceAvatar};

/// The prefix of every picture's key: `avatars/{account}/{upload}/...`.
pub const PREFIX: &str = "avatars/";

/// The largest upload.
pub const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The actor of uploads: how many are at work and how many may wait. Each stays in the task of its request, whose body cannot leave it.
pub struct Uploads;

impl orrery_supervise::Actor for Uploads {}
