//! Exports: everything that is held about a person, as one archive, made in the background and fetched once.

mod archive;
mod gather;
pub mod maker;
mod request;

pub use request::{AskExport, TakeExport, named, newest, ready};

/// The prefix of every archive's key: `exports/{account}/{export}.zip`.
pub const PREFIX: &str = "exports/";

/// The largest archive.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
