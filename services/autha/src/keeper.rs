//! The keeper actor: loads and rotates signing keys, and prunes what has expired.

use std::{sync::Arc, time::Duration};

use orrery_actors::{
    clock::Clock,
    store::Pool,
    supervise::{Pulse, Shutdown},
};

use crate::{
    account::register,
    token::{
        keys::{KeyError, KeySet},
        refresh,
    },
    vault::Vault,
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);

/// Keeps keys and tables in order.
pub struct Keeper {
    /// Autha's connections.
    pub pool: Pool,
    /// Opens sealed keys.
    pub vault: Arc<Vault>,
    /// What it fills.
    pub keys: KeySet,
    /// The time.
    pub clock: Clock,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Keeper {
    /// Keeps until shutdown.
    ///
    /// # Errors
    /// When the database is away, or a key cannot be opened.
    pub async fn run(mut self) -> Result<(), KeyError> {
        loop {
            {
                let held = self.pulse.take();
                let mut connection = self.pool.get().await?;
                let now = self.clock.now();
                self.keys.refresh(&mut connection, &self.vault.signing_keys, now).await?;
                refresh::prune(&mut connection, now).await?;
                register::prune_answers(&mut connection, now).await?;
                held.done();
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.shutdown.requested() => return Ok(()),
            }
        }
    }
}
