//! Passwords: how they are prepared, how strong a new one must be, and hashing on a bounded pool. Who may log in is decided in `credential`.

mod foreign;
mod hash;
mod pool;
mod prepare;
mod strength;

pub use foreign::{BASE64, ForeignHash, Pbkdf2Digest};
pub use hash::Hasher;
pub use pool::{PasswordPool, PoolError, Verified};
pub use prepare::Password;
pub use strength::Strength;

/// Shortest and longest password, in characters after preparation; the same at sign-up and at login.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
