//! Our side: the relay, the consumer and publishing as services use them, with a handler that does nothing but count. This is
//! the only file of the benchmarks that knows our bus.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use orrery_broker_admin::topology::{Topology, declare};
use orrery_bus::{
    Bus, Delivery, Dependencies, Failure, Handler, HandlerSpec, Once, Outcome, Patience,
    consumer::{Consumer, QueueKind},
    relay::{Relay, Wake},
};
use orrery_schemas::{events::EventData, services::ServiceId};
use orrery_store::{
    Pool,
    outbox::{About, Outbox},
};
use orrery_supervise::{
    Admission, Mailbox, Progress, Shutdown, ShutdownTrigger, clock::Clock, random::Random,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;

use super::{
    CONNECTIONS, PREFETCH, QUEUE, WINDOW,
    messages::{self, Message},
};
use crate::figures::{Bound, Figure, Times, Unit};

const AUTHA: ServiceId = ServiceId::new("autha", "com.gravitalia.autha");
const MAILY: ServiceId = ServiceId::new("maily", "com.gravitalia.maily");

/// How long the way from commit to effect is walked, and by how many writers.
const WALK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 20 });
const WRITERS: u32 = 4;
const EFFECT_AIM_MS: f64 = 20.0;
/// The longest that anything here may take to end.
const GRACE: Duration = Duration::from_secs(60);

/// Whether the consumer claims each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbox {
    On,
    Off,
}

/// What services are given.
pub struct Ours {
    bus: Bus,
    autha: Pool,
    maily: Pool,
    clock: Clock,
    random: Random,
}

/// The handler: counts, keeps when each message came, and asks for the end after the last one.
struct Counter {
    inbox: Inbox,
    left: AtomicUsize,
    came: Option<Mutex<HashMap<String, Instant>>>,
    end: ShutdownTrigger,
}

#[derive(Serialize, Deserialize)]
struct Data {
    text: String,
}

impl EventData for Data {
    const TYPE: &'static str = messages::TYPE;
}

fn spec(inbox: Inbox) -> HandlerSpec {
    HandlerSpec {
        name: QUEUE,
        mailbox: Mailbox { capacity: 0, concurrency: usize::from(PREFETCH) },
        retry_delay: Duration::from_secs(1),
        time_limit: Duration::from_secs(10),
        bindings: Vec::new(),
        once: match inbox {
            Inbox::On => Once::Inbox,
            Inbox::Off => Once::ByConstruction,
        },
    }
}

#[async_trait]
impl Handler for Counter {
    fn spec(&self) -> HandlerSpec {
        spec(self.inbox)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        if let Some(came) = &self.came {
            let now = Instant::now();
            came.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.id().to_owned(), now);
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end.shutdown_within(GRACE);
        }
        Outcome::Done
    }

    async fn probe(&self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Ours {
    /// Over these servers; opens nothing yet.
    ///
    /// # Errors
    /// An address is none.
    pub fn new(database: &str, broker: &str) -> Result<Self> {
        let database = serde_json::from_value(json!({ "url": database, "pool_size": CONNECTIONS }))?;
        let pool = |service| Pool::new(&database, service, Handle::current());
        Ok(Self {
            bus: Bus::new(serde_json::from_value(json!({ "url": broker }))?),
            autha: pool(AUTHA)?,
            maily: pool(MAILY)?,
            clock: Clock::System,
            random: Random::system()?,
        })
    }

    /// Declares the queues, which the bare loops use too.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn declare(&self) -> Result<()> {
        let unlimited = declare::has_default_limit(&self.bus, self.random.uuid_v4()).await?;
        let connection = self.bus.connect("bench").await?;
        let topology = Topology::wanted(&[spec(Inbox::On)], &[], unlimited);
        ensure!(declare::declare(&self.bus, &connection, &topology).await?.is_empty(), "other queues stand");
        connection.close(200, "".into()).await?;
        Ok(())
    }

    /// Publishes all as a service does that awaits each confirm, many at once.
    ///
    /// # Errors
    /// The broker fails, or does not confirm one.
    pub async fn publish(&self, messages: &[Message]) -> Result<Duration> {
        let start = Instant::now();
        let patience = Patience::none();
        let publishes = stream::iter(messages).map(|message| {
            self.bus.publish_to_queue(&patience, QUEUE, message.properties.clone(), &message.body)
        });
        publishes.buffer_unordered(WINDOW).try_collect::<()>().await?;
        Ok(start.elapsed())
    }

    /// Takes `count` messages, from the consumer's start until it has drained and ended.
    ///
    /// # Errors
    /// The consumer fails.
    pub async fn consume(&self, inbox: Inbox, count: usize) -> Result<Duration> {
        let (end, ended) = ShutdownTrigger::new();
        let counter = Counter { inbox, left: AtomicUsize::new(count), came: None, end };
        let start = Instant::now();
        self.consumer(Arc::new(counter), ended).run().await?;
        Ok(start.elapsed())
    }

    /// Publishes the pending rows of the outbox, from the relay's start until none is pending.
    ///
    /// # Errors
    /// The relay fails, or ends early.
    pub async fn relay(&self, pending: impl AsyncFn() -> Result<i64>) -> Result<Duration> {
        let (end, ended) = ShutdownTrigger::new();
        let start = Instant::now();
        let relay = tokio::spawn(self.relay_of(Wake::default(), ended).run());
        while pending().await? > 0 {
            ensure!(!relay.is_finished(), "the relay ended early: {:?}", relay.await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let time = start.elapsed();
        end.shutdown_within(GRACE);
        relay.await??;
        Ok(time)
    }

    /// Commits `rate` messages a second for a while, and takes the time from each commit's answer to its handler, with a
    /// relay and a consumer with inbox at work.
    ///
    /// # Errors
    /// A part fails, or a message does not come.
    pub async fn commit_to_effect(&self, rate: f64) -> Result<Vec<Figure>> {
        let (end, ended) = ShutdownTrigger::new();
        let counter = Arc::new(Counter {
            inbox: Inbox::On,
            left: AtomicUsize::new(usize::MAX),
            came: Some(Mutex::default()),
            end: end.clone(),
        });
        let wake = Wake::default();
        let relay = tokio::spawn(self.relay_of(wake.clone(), ended.clone()).run());
        let consumer = tokio::spawn(self.consumer(Arc::clone(&counter), ended).run());
        // Both open their connections.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let pause = Duration::from_secs_f64(f64::from(WRITERS) / rate);
        let writers = (0..WRITERS).map(|number| self.write(wake.clone(), pause, pause / WRITERS * number));
        let committed: HashMap<String, Instant> =
            futures_util::future::try_join_all(writers).await?.into_iter().flatten().collect();
        let came = |counter: &Counter| {
            let came =
                counter.came.as_ref().map(|came| came.lock().unwrap_or_else(PoisonError::into_inner).clone());
            came.unwrap_or_default()
        };
        orrery_tests::deadline::until(GRACE, "every message to come", async || {
            came(&counter).len() >= committed.len()
        })
        .await?;
        end.shutdown_within(GRACE);
        relay.await??;
        consumer.await??;
        let came = came(&counter);
        let mut times = Times::default();
        for (id, committed) in &committed {
            let came = came.get(id).context("a message did not come")?;
            // One that overtakes its commit's answer took no time.
            times.add(came.saturating_duration_since(*committed));
        }
        Ok(vec![
            times.figure("commit to effect, at a tenth of the load", 50, Bound::None)?,
            times.figure("commit to effect, at a tenth of the load", 99, Bound::Aim(EFFECT_AIM_MS))?,
            Figure::once("    messages a second there", rate, Unit::PerSecond, Bound::None),
        ])
    }

    /// Commits a message every `pause` and wakes the relay; gives when each commit was answered.
    async fn write(&self, wake: Wake, pause: Duration, delay: Duration) -> Result<Vec<(String, Instant)>> {
        let outbox = Outbox::new(AUTHA, Duration::from_secs(3600), self.clock.clone(), self.random.clone());
        let data: Data = serde_json::from_value(messages::data())?;
        let mut connection = self.autha.get().await?;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + delay, pause);
        let start = Instant::now();
        let mut committed = Vec::new();
        while start.elapsed() < WALK {
            ticks.tick().await;
            let id = outbox.command(&mut connection, QUEUE, &data, About::default()).await?;
            committed.push((id.to_string(), Instant::now()));
            wake.wake();
        }
        Ok(committed)
    }

    fn consumer(&self, counter: Arc<Counter>, shutdown: Shutdown) -> Consumer {
        let dependencies = Dependencies {
            bus: self.bus.clone(),
            pool: self.maily.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
        };
        Consumer {
            dependencies,
            mailbox: Admission::new(QUEUE, counter.spec().mailbox),
            handler: counter,
            kind: QueueKind::Main,
            progress: Progress::default(),
            shutdown,
        }
    }

    fn relay_of(&self, wake: Wake, shutdown: Shutdown) -> Relay {
        Relay {
            bus: self.bus.clone(),
            pool: self.autha.clone(),
            producer: AUTHA,
            keep: Duration::from_secs(3600),
            clock: Clock::System,
            random: self.random.clone(),
            wake,
            progress: Progress::default(),
            shutdown,
        }
    }
}
