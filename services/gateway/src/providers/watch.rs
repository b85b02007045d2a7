//! Keeps the table of service providers true, and writes down what they used. While the database is away the last known table stays in force.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Life, Shutdown};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{provider::Used, store};
use crate::{config::providers::Providers, gateway::Control};

/// Looks for changes.
#[derive(Clone)]
pub struct Watch {
    /// The gateway.
    pub control: Control,
    /// Connections with the gateway's role.
    pub pool: Pool,
    /// How often.
    pub settings: Providers,
    /// Whether the table was read since the process began.
    pub is_known: Arc<AtomicBool>,
}

impl Actor for Watch {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let shutdown = life.shutdown();
        life.run(self.clone().watch(shutdown));
        Ok(())
    }
}

impl Watch {
    /// Looks until shutdown, and counts a last time then.
    async fn watch(self, mut shutdown: Shutdown) -> Result<(), Infallible> {
        let mut known = None;
        // Told once for each outage.
        let mut fault = String::new();
        let mut count_at = Instant::now() + self.settings.count_every;
        loop {
            let turn = async {
                let looked = self.look(&mut known).await;
                if count_at <= Instant::now() {
                    self.count().await;
                    count_at = Instant::now() + self.settings.count_every;
                }
                let told = looked.err().unwrap_or_default();
                if told.is_empty() && !fault.is_empty() {
                    info!("service providers can be read again");
                } else if !told.is_empty() && fault.is_empty() {
                    warn!(error = told, "service providers cannot be read; those that are known stay");
                }
                fault = told;
                sleep(self.settings.look_every).await;
            };
            tokio::select! {
                () = turn => {}
                () = shutdown.requested() => {
                    self.count().await;
                    return Ok(());
                }
            }
        }
    }

    /// Reads the table if it changed since `known`; why not, for the log.
    async fn look(&self, known: &mut Option<i64>) -> Result<(), String> {
        let asked = *known;
        let read = self.pool.run(move |mut connection| async move {
            // Before the table: what changes between the two is read again.
            let revision = store::revision(&mut connection).await?;
            let changed = asked != Some(revision);
            let settings = if changed { Some(store::all(&mut connection).await?) } else { None };
            Ok::<_, StoreError>((revision, settings))
        });
        let (revision, settings) = read.await.map_err(|error| error.to_string())?;
        if let Some(settings) = settings {
            let providers = settings.len();
            self.control.provide(settings).map_err(|error| error.to_string())?;
            info!(providers, revision, "the table of service providers was read");
        }
        *known = Some(revision);
        self.is_known.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes down what was used; what cannot be written stays counted.
    async fn count(&self) {
        for provider in self.control.providers() {
            let used = provider.take_used();
            if used == Used::default() {
                continue;
            }
            let name = provider.settings.name.clone();
            let written = self
                .pool
                .run(move |mut connection| async move { store::count(&mut connection, &name, used).await });
            match written.await {
                // It was removed meanwhile, and what it used with it.
                Ok(_) => {}
                Err(error) => {
                    provider.put_back(used);
                    warn!(provider = provider.settings.name, %error, "what a service provider used is written down later");
                    // The others would wait for the same.
                    if error.is_outage() {
                        return;
                    }
                }
            }
        }
    }
}
