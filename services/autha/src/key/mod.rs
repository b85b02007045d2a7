//! Signing keys: made by a replica, published by all, and only then signed with. What is signed lives in `token`.

mod make;
mod set;
mod store;

pub use set::{JWKS_LIFETIME, KeyError, KeySet, KeysMissing, SigningKey};
pub use store::{Rotation, rotate};
