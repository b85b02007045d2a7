//! Alerts for an installation without Prometheus: what the observer saw, and what is measured here, is compared with the limits of `observability/alerts.toml`, and what
//! holds is told by ntfy. It goes straight there: what is told may be that the broker or the database is away.

pub mod config;
mod measured;
mod ntfy;
mod readings;
mod rules;
mod state;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use orrery_config::broker::Broker;
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown};
use tracing::{info, warn};

use self::{config::Config, measured::Measured, ntfy::Ntfy, rules::Rule, state::State};
use crate::{observer::Latest, processes::Others};

/// How often is measured what the observer does not see.
const MEASURE: Duration = Duration::from_secs(60);
/// After a try that failed, how long is waited before the next.
const AGAIN: Duration = Duration::from_secs(10);

/// The actor's state. Each life begins without a memory of what was told: what still holds is told again.
#[derive(Clone)]
pub struct Alerts {
    /// What holds for all lives.
    pub parts: Arc<Parts>,
    /// What the observer saw last.
    pub latest: Latest,
    /// Seen by the watchdog.
    pub progress: Progress,
}

/// What an alert is made of, and where it goes.
pub struct Parts {
    rules: Vec<Rule>,
    ntfy: Ntfy,
    measured: Measured,
    config: Config,
    shutdown: Shutdown,
}

/// Why there can be no alerts.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// The definitions that were compiled in.
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
    /// A setting, or no client.
    #[error("{0}")]
    Config(String),
}

impl Parts {
    /// What the settings ask for; none where no address is set.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(
        config: &Config,
        broker: &Broker,
        others: Others,
        shutdown: Shutdown,
    ) -> Result<Option<Self>, AlertsError> {
        let Some(address) = config.address().map_err(AlertsError::Config)? else { return Ok(None) };
        let token = config.token().map_err(AlertsError::Config)?;
        let ntfy = Ntfy::new(address, token).map_err(|error| AlertsError::Config(error.to_string()))?;
        let measured = Measured::new(broker, config.folders.clone(), others);
        Ok(Some(Self { rules: rules::read()?, ntfy, measured, config: config.clone(), shutdown }))
    }
}

impl Actor for Alerts {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        let this = self.clone();
        life.run(async move {
            let mut shutdown = this.parts.shutdown.clone();
            tokio::select! {
                () = this.run() => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), Infallible>(())
        });
        Ok(())
    }
}

impl Alerts {
    async fn run(mut self) {
        let parts = Arc::clone(&self.parts);
        let mut state = State::new(parts.config.hold_at_most, parts.config.repeat);
        let (mut measured, mut measured_at): (_, Option<Instant>) = (readings::Readings::default(), None);
        let mut next_try = Instant::now();
        while self.latest.changed().await.is_ok() {
            let Some(snapshot) = self.latest.borrow_and_update().clone() else { continue };
            if measured_at.is_none_or(|at| at.elapsed() >= MEASURE) {
                measured_at = Some(Instant::now());
                measured = parts.measured.look().await;
            }
            let mut readings = readings::of(&snapshot);
            readings.join(measured.clone());
            state.update(&parts.rules, &readings, &snapshot.findings, Instant::now());
            let due = state.due(Instant::now());
            if due.is_empty() || Instant::now() < next_try {
                continue;
            }
            match parts.ntfy.send(&due).await {
                Ok(()) => {
                    info!(alerts = due.len(), "alerts were told");
                    state.told(&due, Instant::now());
                }
                Err(error) => {
                    warn!(%error, alerts = due.len(), "alerts could not be told, and are told again: look at console.alerts");
                    next_try = Instant::now() + AGAIN;
                }
            }
        }
    }
}
