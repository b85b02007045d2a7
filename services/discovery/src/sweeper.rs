//! The actor that finds what was not told: replicas that are silent, sessions that ended, messages that wait; and removes what has expired.

use std::{convert::Infallible, time::Duration};

use orrery_supervise::{Actor, ActorError, Handle, Life, Shutdown, Tick};
use tracing::{info, warn};

use crate::{
    metrics,
    presence::Presence,
    store::{Store, StoreFault},
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// It removes rows every so many looks.
const PRUNING: u64 = 12;
/// How many rows are removed at once.
const ROWS: i64 = 1000;

/// Looks again and again.
pub struct Sweeper {
    /// Who is online.
    pub presence: Presence,
    /// What is kept.
    pub store: Store,
    /// How often it has looked.
    pub looks: u64,
}

impl Actor for Sweeper {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.every(EVERY, EVERY);
        life.run(read_choices(self.presence.clone(), self.store.clone(), life.shutdown()));
        Ok(())
    }
}

impl Handle<Tick> for Sweeper {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        self.looks += 1;
        let (presence, store) = (self.presence.clone(), self.store.clone());
        let prunes = self.looks % PRUNING == 1;
        async move {
            let gone = presence.lock().expire_replicas();
            if gone > 0 {
                info!(gone, "replicas are silent; their peers count as offline");
            }
            if let Err(error) = sweep(&presence, &store, prunes).await {
                // What is there is found by the next look.
                warn!(%error, "nothing can be swept right now");
            }
            Ok(())
        }
    }
}

/// Reads what peers have chosen whenever one has chosen otherwise, until the shutdown.
async fn read_choices(presence: Presence, store: Store, mut shutdown: Shutdown) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = presence.stale() => {}
            () = shutdown.requested() => return Ok(()),
        }
        let stale = presence.lock().take_stale();
        for name in stale {
            match store.profile(&name).await {
                Ok(profile) => {
                    presence.lock().set_profile(&name, profile);
                    presence.changed();
                }
                // The sweep finds it again.
                Err(error) => warn!(%error, "what a peer has chosen cannot be read right now"),
            }
        }
    }
}

async fn sweep(presence: &Presence, store: &Store, prunes: bool) -> Result<(), StoreFault> {
    let sessions = presence.lock().sessions();
    if !sessions.is_empty() {
        let ended = store.ended_among(sessions).await?;
        presence.lock().end_sessions(&ended);
    }
    let names = presence.lock().own_names();
    if !names.is_empty() {
        for name in store.waiting_among(names.clone()).await? {
            let _elsewhere = presence.lock().wake(&name);
        }
        for name in store.changed_among(names, EVERY * 4).await? {
            presence.mark_stale(&name);
        }
    }
    if prunes {
        metrics::messages("expired", store.prune_messages(ROWS).await?);
        store.prune_offers(ROWS).await?;
        store.prune_sessions(ROWS).await?;
    }
    Ok(())
}
