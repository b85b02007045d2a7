//! The maintenance: takes the partners of the configuration over when it starts, counts endpoints and what they did not take for the metrics, and
//! removes what is too old from log, dead letters and audit log.

use std::{sync::Arc, time::Duration};

use orrery_config::partner::Partner as Configured;
use orrery_observability::metrics;
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Handle, Life, Progress, Tick, clock::Clock, random::Random};
use tracing::{info, warn};

use crate::records::{audit, deliveries, log, overview, partners};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(15);
/// Rows of one statement, and the pause after it.
const ROWS: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps what partners have in order.
#[derive(Clone)]
pub struct Maintenance {
    /// Connections.
    pub pool: Pool,
    /// The partners of the configuration.
    pub configured: Arc<[Configured]>,
    /// How long the log is kept.
    pub log_lifetime: Duration,
    /// How long dead letters are kept.
    pub dead_letter_lifetime: Duration,
    /// How long lines of the audit log are kept.
    pub audit_lifetime: Duration,
    /// The time.
    pub clock: Clock,
    /// Ids.
    pub random: Random,
    /// What it shows of its work.
    pub progress: Progress,
    /// Whether the configuration was not looked at yet.
    pub is_first: bool,
}

impl Actor for Maintenance {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(Duration::ZERO, EVERY);
        Ok(())
    }
}

impl Handle<Tick> for Maintenance {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let maintenance = self.clone();
        self.is_first = false;
        async move {
            if maintenance.is_first {
                maintenance.take_over().await?;
            }
            maintenance.count().await?;
            maintenance.prune().await?;
            Ok(())
        }
    }
}

impl Maintenance {
    async fn take_over(&self) -> Result<(), StoreError> {
        for partner in self.configured.iter() {
            let id = self.random.uuid_v7(&self.clock);
            let partner = partner.clone();
            let name = partner.name.clone();
            let is_taken = self
                .pool
                .run(move |mut connection| async move {
                    let (publishes, receives) = (&partner.publishes, &partner.receives);
                    partners::take_over(&mut connection, id, &partner.name, publishes, receives).await
                })
                .await?;
            if is_taken {
                info!(partner = name, "stands in the configuration, and has its rights from there");
            } else {
                warn!(
                    partner = name,
                    "was made by command: over HTTP the configuration's rights are not its own"
                );
            }
            self.progress.advance();
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.get().await?;
        let figures = overview::figures(&mut connection).await?;
        drop(connection);
        let shown = |count: i64| u64::try_from(count).unwrap_or_default();
        metrics::endpoints("pending", shown(figures.pending));
        metrics::endpoints("active", shown(figures.active));
        metrics::endpoints("failing", shown(figures.failing));
        metrics::endpoints("disabled", shown(figures.disabled));
        metrics::endpoints_not_taken("retry", shown(figures.retry));
        metrics::endpoints_not_taken("dead", shown(figures.dead));
        self.progress.advance();
        Ok(())
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let (log_seconds, letter_seconds) =
            (self.log_lifetime.as_secs_f64(), self.dead_letter_lifetime.as_secs_f64());
        let audit_seconds = self.audit_lifetime.as_secs_f64();
        loop {
            let mut connection = self.pool.get().await?;
            let gone = log::prune(&mut connection, log_seconds, ROWS).await?
                + deliveries::prune(&mut connection, letter_seconds, ROWS).await?
                + audit::prune(&mut connection, audit_seconds, ROWS).await?;
            drop(connection);
            self.progress.advance();
            if gone == 0 {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
