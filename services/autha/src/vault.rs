//! Autha's keys, one sealer per purpose. The ciphers live in `actors::seal`.

use orrery_actors::{
    config::keys::KeyRing,
    seal::{SealError, Sealer},
};

/// Sealers derived from the master key, and the one shared with maily.
pub struct Vault {
    /// Addresses: look-up hash and content.
    pub email: Sealer,
    /// Private signing keys.
    pub signing_keys: Sealer,
    /// Derivation of a refresh token's successor.
    pub refresh: Sealer,
    /// Answers kept for repeated requests.
    pub answers: Sealer,
    /// Addresses on their way to maily.
    pub mail: Sealer,
}

impl Vault {
    /// Derives every key.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn new(master: &KeyRing, mail: &KeyRing) -> Result<Self, SealError> {
        Ok(Self {
            email: Sealer::new(master, "email")?,
            signing_keys: Sealer::new(master, "signing-keys")?,
            refresh: Sealer::new(master, "refresh-tokens")?,
            answers: Sealer::new(master, "answers")?,
            mail: Sealer::new(mail, orrery_schemas::email::SEAL_PURPOSE)?,
        })
    }
}
