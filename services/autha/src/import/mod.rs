//! Moving in and out: accounts with their password hashes from other systems, and all of ours in the same form.

mod formats;
mod hashes;
mod leave;
mod run;

pub use formats::{FirebaseParameters, Format, ReadError, rows};
pub use leave::{Departing, departing};
pub use run::{ImportBatch, ImportError, Imported, LeftOut, begin, finish, left_out};
