//! The keys that a replica has loaded: what it signs with, verifies by and publishes.

use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::{DecodingKey, EncodingKey};
use orrery_seal::SealError;
use orrery_store::StoreError;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// How long clients may keep the JWKS; a new key is published by every replica for so long before it signs.
pub const JWKS_LIFETIME: chrono::Duration = chrono::Duration::hours(1);

/// No key was loaded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing keys are not loaded yet")]
pub struct KeysMissing;

/// The keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed key does not open.
    #[error("the signing key {kid} cannot be opened: {source}")]
    Seal {
        /// Which.
        kid: String,
        /// Why.
        source: SealError,
    },
    /// The library refused a key.
    #[error("a signing key cannot be used")]
    Library,
}

impl From<diesel::result::Error> for KeyError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A key that signs, signed, or will sign.
pub struct SigningKey {
    /// Its id.
    pub kid: String,
    /// Signs.
    pub encoding: EncodingKey,
    /// Verifies.
    pub decoding: DecodingKey,
    /// Its public side (RFC 7517).
    pub jwk: Value,
    /// Whether it may sign.
    pub is_active: bool,
}

/// The keys that are published now, the newest first; shared by clones.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Arc<RwLock<Arc<Vec<Arc<SigningKey>>>>>,
    /// Held by whoever looks into the database for a key that is not here.
    pub(super) looking: Arc<Mutex<Option<std::time::Instant>>>,
}

impl KeySet {
    fn keys(&self) -> Arc<Vec<Arc<SigningKey>>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, keys: Vec<Arc<SigningKey>>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The newest key that may sign. No time decides it: a clock that was wrong takes no key away.
    ///
    /// # Errors
    /// When none was loaded.
    pub fn signing(&self) -> Result<Arc<SigningKey>, KeysMissing> {
        self.keys().iter().find(|key| key.is_active).cloned().ok_or(KeysMissing)
    }

    /// The key of that id.
    pub fn by_id(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.keys().iter().find(|key| key.kid == kid).cloned()
    }

    /// Whether any key was loaded.
    pub fn is_loaded(&self) -> bool {
        !self.keys().is_empty()
    }

    /// The public keys (RFC 7517), those that do not sign yet and those that signed included.
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys().iter().map(|key| &key.jwk).collect::<Vec<_>>() })
    }
}
