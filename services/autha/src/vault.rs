//! Autha's keys, one sealer per purpose. The ciphers live in `orrery_seal`.

use orrery_config::keys::KeyRing;
use orrery_seal::{SealError, Sealer};

/// Sealers derived from the master key, and those shared with maily.
pub struct Vault {
    /// Addresses: look-up hash and content.
    pub email: Sealer,
    /// TOTP secrets.
    pub totp: Sealer,
    /// What challenges are for.
    pub challenges: Sealer,
    /// Devices of sessions.
    pub devices: Sealer,
    /// Names in the audit log.
    pub audit: Sealer,
    /// Private signing keys.
    pub signing_keys: Sealer,
    /// Derivation of a refresh token's successor.
    pub refresh: Sealer,
    /// Answers kept for repeated requests.
    pub answers: Sealer,
    /// Whose pictures wait in the bucket.
    pub incoming: Sealer,
    /// Digests of who is throttled.
    pub throttle: Sealer,
    /// Addresses on their way to maily.
    pub mail: Sealer,
    /// Links and codes on their way to maily.
    pub mail_details: Sealer,
}

impl Vault {
    /// Derives every key.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn new(master: &KeyRing, mail: &KeyRing) -> Result<Self, SealError> {
        Ok(Self {
            email: Sealer::new(master, "email")?,
            totp: Sealer::new(master, "totp")?,
            challenges: Sealer::new(master, "challenges")?,
            devices: Sealer::new(master, "devices")?,
            audit: Sealer::new(master, "audit")?,
            signing_keys: Sealer::new(master, "signing-keys")?,
            refresh: Sealer::new(master, "refresh-tokens")?,
            answers: Sealer::new(master, "answers")?,
            incoming: Sealer::new(master, "incoming")?,
            throttle: Sealer::new(master, "throttle")?,
            mail: Sealer::new(mail, orrery_schemas::email::SEAL_PURPOSE)?,
            mail_details: Sealer::new(mail, orrery_schemas::email::DETAILS_PURPOSE)?,
        })
    }
}
