//! The one look at broker, database and processes that all viewers share: an actor that looks again and again, and publishes what it saw. Its cost does not grow with
//! those who watch; a look that takes long is followed by a longer pause.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use orrery_service::Enabled;
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown, Supervisor, clock::Clock};
use orrery_web::health::Health;
use tokio::sync::watch;
use tracing::warn;

use crate::{
    audit,
    broker::Watched,
    figures,
    history::History,
    processes::{ActorRow, Others, Process},
    snapshot::Snapshot,
    store::Sessions,
};

/// After a look that took long, this many times as long nothing is looked at.
const REST: u32 = 4;
/// How often the audit log is pruned.
const PRUNE: Duration = Duration::from_secs(3600);

/// What was seen last, if anything.
pub type Latest = watch::Receiver<Option<Arc<Snapshot>>>;

/// The actor's state; clones share what was seen.
#[derive(Clone)]
pub struct Observer {
    /// What is looked at, by a fresh set of clients for each life.
    pub parts: Arc<Parts>,
    /// Where it is published.
    pub latest: watch::Sender<Option<Arc<Snapshot>>>,
    /// The queues' last hour, over all lives.
    pub history: Arc<Mutex<History>>,
    /// Seen by the watchdog.
    pub progress: Progress,
}

/// What is looked at.
pub struct Parts {
    /// The broker's settings.
    pub broker: orrery_config::broker::Broker,
    /// Connections of the console's role.
    pub pool: Pool,
    /// The services of the installation.
    pub services: Vec<Enabled>,
    /// Other processes.
    pub others: Others,
    /// This process.
    pub supervisor: Supervisor,
    /// This process's dependencies.
    pub health: Health,
    /// Which sessions ended.
    pub sessions: Sessions,
    /// How often is looked.
    pub every: Duration,
    /// How long lines of the audit log are kept.
    pub audit_lifetime: Duration,
    /// When the process started.
    pub started: Instant,
    /// The end.
    pub shutdown: Shutdown,
    /// The time.
    pub clock: Clock,
}

impl Actor for Observer {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        let this = self.clone();
        life.run(async move { this.run().await });
        Ok(())
    }
}

impl Observer {
    async fn run(self) -> Result<(), StoreError> {
        let parts = &self.parts;
        let mut shutdown = parts.shutdown.clone();
        let watched = Watched {
            handlers: parts.services.iter().flat_map(|service| service.handlers.clone()).collect(),
            bridges: parts.services.iter().flat_map(|service| service.bridges.clone()).collect(),
            producers: parts.services.iter().map(|service| service.name).collect(),
        };
        let mut observer = figures::Observer::new(&parts.broker, parts.pool.clone(), watched);
        let mut pruned: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            tokio::select! {
                () = self.look(&mut observer) => {}
                () = shutdown.requested() => return Ok(()),
            }
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
                pruned = Some(Instant::now());
                self.prune().await;
            }
            let pause = parts.every.max(begun.elapsed() * REST);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    async fn look(&self, observer: &mut figures::Observer) {
        let parts = &self.parts;
        let begun = Instant::now();
        let (figures, others, own, ended) = tokio::join!(
            observer.look(),
            parts.others.look(),
            self.own(),
            parts.sessions.refresh(&parts.pool)
        );
        if let Err(error) = ended
            && !error.is_outage()
        {
            warn!(%error, "sessions that ended elsewhere are not known");
        }
        let processes = std::iter::once(own).chain(others).collect();
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = (parts.clock.now(), took);
        let snapshot = Snapshot::new(figures, processes, &parts.services, &mut history, moment);
        drop(history);
        self.latest.send_replace(Some(Arc::new(snapshot)));
    }

    /// This process.
    async fn own(&self) -> Process {
        let parts = &self.parts;
        let ready = parts.health.ready().await;
        Process {
            address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: parts.started.elapsed().as_secs_f64(),
            services: parts
                .services
                .iter()
                .filter(|service| service.is_here)
                .map(|service| service.name.to_owned())
                .collect(),
            status: ready.status.to_owned(),
            causes: ready.causes.into_iter().map(|(name, why)| (name.to_owned(), why)).collect(),
            actors: parts.supervisor.status().into_iter().map(ActorRow::from).collect(),
        }
    }

    async fn prune(&self) {
        let parts = &self.parts;
        let pruned = async {
            let mut connection = parts.pool.get().await?;
            audit::prune(&mut connection, parts.audit_lifetime.as_secs_f64()).await
        };
        if let Err(error) = pruned.await
            && !error.is_outage()
        {
            warn!(%error, "old lines of the audit log stay");
        }
    }
}
