//! Passwords: how strong a new one must be, and hashing on a bounded pool. Who may log in is decided in `account`.

mod hash;
mod pool;

pub use hash::Hasher;
pub use pool::{Hashed, PasswordPool, PoolError};

/// Shortest and longest password, in characters; the same at sign-up and at login.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
