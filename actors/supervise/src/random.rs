//! Randomness from a passed-in source: ids, tokens, jitter. Keys and nonces of the AEAD come from aws-lc itself.

use std::sync::{Arc, Mutex, PoisonError};

use orrery_schemas::trace::TraceParent;
use rand::{Rng, SeedableRng, TryRng, rngs::StdRng, rngs::SysRng};
use uuid::Uuid;

use crate::clock::Clock;

/// A cryptographically secure generator, shared by clones.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoEntropy;

impl Random {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// When the system has no entropy to give.
    pub fn system() -> Result<Self, NoEntropy> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(|_| NoEntropy)?;
        Ok(Self(Arc::new(Mutex::new(StdRng::from_seed(seed)))))
    }

    /// The same sequence for the same seed, for tests.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A UUIDv7 of the clock's time (RFC 9562).
    pub fn uuid_v7(&self, clock: &Clock) -> Uuid {
        let millis = u64::try_from(clock.now().timestamp_millis()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid()
    }

    /// A UUIDv4, for tokens of leases.
    pub fn uuid_v4(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A new trace.
    pub fn trace(&self) -> TraceParent {
        TraceParent::from_random(u128::from_be_bytes(self.bytes()), self.span())
    }

    /// The id of a span.
    pub fn span(&self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    /// A fraction in [0, 1), for jitter.
    pub fn fraction(&self) -> f64 {
        f64::from(u32::from_be_bytes(self.bytes())) / (f64::from(u32::MAX) + 1.0)
    }
}
