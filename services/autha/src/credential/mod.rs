//! What proves who somebody is: passwords, TOTP, recovery codes, passkeys. Hashing lives in `password`, sessions in `session`.

pub mod proof;
pub mod public_key;
pub mod recovery_codes;
pub mod second_factor;
pub mod store;
pub mod totp;
