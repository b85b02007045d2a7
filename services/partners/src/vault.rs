//! The keys of partners: what seals tokens, endpoints' secrets and contacts, and the mails that leave for maily.

use orrery_config::keys::KeyRing;
use orrery_schemas::email::{DETAILS_PURPOSE, SEAL_PURPOSE};
use orrery_seal::{SealError, Sealer};

/// What seals, each for one purpose.
pub struct Vault {
    /// Access tokens.
    pub tokens: Sealer,
    /// The secrets that sign deliveries.
    pub secrets: Sealer,
    /// The addresses of partners.
    pub contacts: Sealer,
    /// Addresses, for maily.
    pub mail: Sealer,
    /// Details of mails, for maily.
    pub mail_details: Sealer,
}

impl Vault {
    /// Derives every key.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new(sealing: &KeyRing, mail: &KeyRing) -> Result<Self, SealError> {
        Ok(Self {
            tokens: Sealer::new(sealing, "partners.tokens")?,
            secrets: Sealer::new(sealing, "partners.secrets")?,
            contacts: Sealer::new(sealing, "partners.contacts")?,
            mail: Sealer::new(mail, SEAL_PURPOSE)?,
            mail_details: Sealer::new(mail, DETAILS_PURPOSE)?,
        })
    }
}
