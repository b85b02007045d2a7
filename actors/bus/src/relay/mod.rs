//! The relay actor: leases rows of the outbox, publishes them with pipelined confirms, and writes down what became of them. Several lanes
//! take turns (`lane`), suspects are published alone (`suspects`), sent rows are pruned. Rows live in `orrery_store::outbox`.

mod batch;
mod lane;
mod message;
mod settle;
mod suspects;

use std::{convert::Infallible, sync::Arc, time::Duration};

use self::lane::Window;
use futures_util::future::join_all;
use orrery_observability::metrics::{self, OutboxFigures};
use orrery_schemas::services::ServiceId;
use orrery_store::{Pool, StoreError, outbox};
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown, clock::Clock, random::Random};
use tokio::sync::{Mutex, Notify, watch};
use tracing::{debug, warn};

use super::{Bus, BusError};

/// Batches that are under way at once: one is leased or settled while others are being confirmed.
const LANES: usize = 3;
/// A batch of each lane, and the look for it.
pub(super) const MOST_AT_WORK: usize = LANES * (outbox::BATCH + 1);
/// The shortest lease; a killed relay's rows are taken up by another after it.
const LEASE: Duration = Duration::from_secs(10);
/// How often the outbox is looked at when nobody wakes the relay.
const POLL: Duration = Duration::from_secs(1);
/// How often what waits in the outbox is counted, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How often sent rows are pruned, how many at once, and the pause between two such batches, in which others get at the database.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const PRUNE_ROWS: i64 = 1000;
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// Tells the relay that a transaction with rows was committed. Many wakes while it works count as one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes the relay.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Publishes what `producer` wrote, and what an operator has published again.
#[derive(Clone)]
pub struct Relay {
    /// The broker.
    pub bus: Bus,
    /// A pool whose role may read the outbox.
    pub pool: Pool,
    /// Whose rows.
    pub producer: ServiceId,
    /// How long sent rows are kept.
    pub keep: Duration,
    /// The time.
    pub clock: Clock,
    /// The source of lease tokens.
    pub random: Random,
    /// The bell.
    pub wake: Wake,
    /// What it shows of its work.
    pub progress: Progress,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Actor for Relay {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let relay = Self { progress: life.progress(), shutdown: life.shutdown(), ..self.clone() };
        life.run(relay.run());
        Ok(())
    }
}

impl Relay {
    /// Relays until shutdown; each lane looks once more before it ends.
    ///
    /// # Errors
    /// When broker or database go away: the supervisor then builds a new relay.
    pub async fn run(self) -> Result<(), BusError> {
        let window = Mutex::new(Window::new());
        let ending = watch::Sender::new(false);
        let lanes = join_all((0..LANES).map(|lane| self.lane(lane == 0, &window, &ending)));
        tokio::pin!(lanes);
        let ends = tokio::select! {
            ends = &mut lanes => ends,
            Err(error) = self.publish_suspects() => {
                // The lanes settle what they have in hand.
                ending.send_replace(true);
                lanes.await;
                return Err(error);
            }
            never = self.prune() => match never {},
            never = self.count() => match never {},
        };
        ends.into_iter().collect()
    }

    fn producers(&self) -> [&'static str; 2] {
        [self.producer.name(), outbox::OPERATOR]
    }

    /// Longer than a confirm may take.
    fn lease_seconds(&self) -> i32 {
        i32::try_from(LEASE.max(self.bus.confirm_timeout() * 2).as_secs()).unwrap_or(i32::MAX)
    }

    /// Shows what waits. What cannot be counted is shown as it was.
    async fn count(&self) -> Infallible {
        let mut tick = tokio::time::interval(COUNT_EVERY);
        loop {
            tick.tick().await;
            let counted = async {
                let mut connection = self.pool.get().await?;
                outbox::lag(&mut connection, &[self.producer.name()]).await
            };
            let lags = match counted.await {
                Ok(lags) => lags,
                Err::<_, StoreError>(error) => {
                    debug!(%error, "the outbox could not be counted");
                    continue;
                }
            };
            for (producer, lag) in self.producers().into_iter().filter_map(|producer| {
                lags.iter().find(|lag| lag.producer == producer).map(|lag| (producer, lag))
            }) {
                let rows = |count: i64| u64::try_from(count).unwrap_or_default();
                metrics::outbox(&OutboxFigures {
                    producer,
                    pending: rows(lag.pending),
                    oldest: lag.oldest_seconds,
                    refused: rows(lag.refused),
                    unrouted: rows(lag.unrouted),
                    failed: rows(lag.failed),
                });
            }
        }
    }

    async fn prune(&self) -> Infallible {
        let keep = self.keep.as_secs_f64();
        let mut tick = tokio::time::interval(PRUNE_EVERY);
        loop {
            tick.tick().await;
            loop {
                let pruned = async {
                    let mut connection = self.pool.get().await?;
                    outbox::prune(&mut connection, keep, PRUNE_ROWS).await
                };
                match pruned.await {
                    Ok(0) => break,
                    Ok(_) => tokio::time::sleep(PRUNE_PAUSE).await,
                    Err::<_, StoreError>(error) => {
                        warn!(%error, "sent rows could not be pruned, tried again in a minute");
                        break;
                    }
                }
            }
        }
    }
}
