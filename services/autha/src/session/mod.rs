//! Sessions: a login each, under which refresh tokens hang. How somebody proves who they are lives in `credential`, tokens in `token`.

mod begin;
pub mod list;
mod log_in;
pub mod principal;

pub use begin::{NewSession, begin};
pub use list::{EndSession, EndSessions, end_all, list, prune, tell_ended};
pub use log_in::{OpenSession, Opened};
