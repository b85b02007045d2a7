//! What discovery keeps, sealed: settings of peers, offers, messages that wait, sessions. A peer is a keyed digest of its name.

mod accounts;
mod messages;
mod offers;
mod schema;
mod sessions;
mod settings;

use std::sync::Arc;

use orrery_config::keys::KeyRing;
use orrery_seal::{SealError, Sealer};
use orrery_store::{Pool, StoreError};
use orrery_supervise::{clock::Clock, random::Random};

pub use accounts::{end_sessions, erase};
pub use messages::Refused;
pub use settings::{Relation, TooManyRelations};

use crate::{config::Config, name::Name};

/// What is derived from the key, by purpose.
const NAMES: &str = "discovery.names";
const BODIES: &str = "discovery.bodies";

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was sealed is not what it should be.
    #[error("what was kept cannot be read")]
    Unreadable,
}

impl StoreFault {
    /// Whether it may well succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outage())
    }
}

impl From<diesel::result::Error> for StoreFault {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The tables, and the keys to them.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    names: Arc<Sealer>,
    bodies: Arc<Sealer>,
    config: Arc<Config>,
    clock: Clock,
    random: Random,
}

impl Store {
    /// The tables behind `pool`, under the keys of `ring`.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn new(
        pool: Pool,
        ring: &KeyRing,
        config: Arc<Config>,
        clock: Clock,
        random: Random,
    ) -> Result<Self, SealError> {
        let (names, bodies) = (Arc::new(Sealer::new(ring, NAMES)?), Arc::new(Sealer::new(ring, BODIES)?));
        Ok(Self { pool, names, bodies, config, clock, random })
    }

    /// The digest that a peer's rows are written by.
    fn digest(&self, name: &Name) -> Result<Vec<u8>, SealError> {
        self.names.mac(name.as_str().as_bytes())
    }

    /// The digests that its rows may have: those of former keys too.
    fn digests(&self, name: &Name) -> Vec<Vec<u8>> {
        self.names.macs(name.as_str().as_bytes())
    }
}
