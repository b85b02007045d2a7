//! The worker of one endpoint: reads the log from the endpoint's cursor on, has so many deliveries at work as the endpoint wants, keeps what was not taken, and
//! tries it again. It waits for its own endpoint only; nothing that it holds is another's.

mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use orrery_bus::relay::Wake;
use orrery_observability::metrics;
use orrery_seal::SealError;
use orrery_store::{Pool, StoreError, outbox::Outbox};
use orrery_supervise::{clock::Clock, random::Random};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;

use self::waiting::Waiting;
use super::{
    attempt::{Ended, Failure, Target},
    schedule,
    signature::Secret,
    tail::{Entry, Tail},
};
use crate::{
    config::Delivery,
    filter::{self, Filter, FilterError},
    owner,
    publish::allowed,
    records::{
        deliveries::{self, Failed, Waiting as Row},
        endpoints::{self, Endpoint},
        partners::Partner,
    },
    targets::Gate,
    vault::Vault,
};

/// Failures in a row after which only one delivery is at work, and nothing new is begun while something waits.
const DOUBTFUL: u32 = 3;
/// Events of the log that are read at once.
const READ: usize = 64;
/// The longest that nothing is looked at.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What all workers of a process share.
pub struct Shared {
    /// Connections.
    pub pool: Pool,
    /// The log.
    pub tail: Arc<Tail>,
    /// The way out.
    pub gate: Gate,
    /// Opens secrets, seals mails.
    pub vault: Arc<Vault>,
    /// How endpoints are delivered to.
    pub delivery: Delivery,
    /// Writes mails to owners.
    pub outbox: Outbox,
    /// Rings for the relay.
    pub wake: Wake,
    /// The time.
    pub clock: Clock,
    /// Jitter.
    pub random: Random,
    /// Cursors that have moved and are not written yet.
    pub cursors: Mutex<BTreeMap<Uuid, i64>>,
}

/// A worker ended early.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its secret cannot be opened.
    #[error("the secret of an endpoint cannot be opened: {0}")]
    Seal(#[from] SealError),
    /// Its filter was valid once.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A mail could not be written.
    #[error(transparent)]
    Owner(#[from] owner::OwnerError),
}

/// An event at work.
struct Item {
    position: i64,
    key: Uuid,
    ty: String,
    subject: Option<String>,
    event: bytes::Bytes,
    attempts: i32,
    first_at: Option<DateTime<Utc>>,
    /// When it was logged; a retry's is asked for once it is taken.
    logged_at: Option<DateTime<Utc>>,
    is_retry: bool,
}

/// The worker of one endpoint.
pub struct Worker {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    partner: Partner,
    filter: Filter,
    target: Target,
    /// Read from the log, and not begun.
    buffer: VecDeque<Arc<Entry>>,
    /// Up to where the log was read.
    read: i64,
    /// Positions of the log that are at work.
    outstanding: BTreeSet<i64>,
    /// Subjects at work, where order matters.
    subjects: BTreeSet<String>,
    waiting: Waiting,
    at_work: FuturesUnordered<BoxFuture<'static, (Item, Ended)>>,
    failures: u32,
    paused_until: Option<DateTime<Utc>>,
    next_start: Instant,
}

impl Worker {
    /// The worker of an endpoint of a partner.
    ///
    /// # Errors
    /// When its secret cannot be opened.
    pub fn new(shared: Arc<Shared>, endpoint: Endpoint, partner: Partner) -> Result<Self, WorkerError> {
        let now = shared.clock.now();
        let open = |sealed: &str| Secret::open(&shared.vault.secrets, sealed, endpoint.id);
        let mut secrets = vec![open(&endpoint.secret)?];
        if let Some(previous) =
            endpoint.previous_secret.as_ref().filter(|_| endpoint.previous_until > Some(now))
        {
            secrets.push(open(previous)?);
        }
        let filter = Filter {
            types: endpoint.types.clone(),
            attributes: filter::attributes(&endpoint.attributes),
            expression: endpoint.filter.as_deref().map(filter::parse).transpose()?,
        };
        let target = Target { gate: shared.gate.clone(), url: endpoint.url.clone(), secrets };
        Ok(Self {
            read: endpoint.cursor,
            waiting: Waiting::new(shared.delivery.window),
            shared,
            endpoint,
            partner,
            filter,
            target,
            buffer: VecDeque::new(),
            outstanding: BTreeSet::new(),
            subjects: BTreeSet::new(),
            at_work: FuturesUnordered::new(),
            failures: 0,
            paused_until: None,
            next_start: Instant::now(),
        })
    }

    /// Delivers until it is told to stop, or the endpoint is disabled. What is at work then is awaited.
    ///
    /// # Errors
    /// When the database fails: what was not settled is delivered again by the next worker.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
        if self.partner.disabled_at.is_some() {
            return Ok(());
        }
        let mut head = self.shared.tail.subscribe();
        // Whoever begins a failing endpoint anew goes gently.
        if self.endpoint.failing_since.is_some() {
            self.failures = DOUBTFUL;
        }
        self.waiting.load(&self.shared.pool, self.endpoint.id, self.shared.clock.now()).await?;
        loop {
            let until = self.fill().await?;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some((item, ended)) = self.at_work.next(), if !self.at_work.is_empty() => {
                    if !self.settle(item, ended).await? {
                        break;
                    }
                }
                Ok(()) = head.changed(), if self.takes_new() => {}
                () = tokio::time::sleep(until) => {}
            }
        }
        while let Some((item, ended)) = self.at_work.next().await {
            self.settle(item, ended).await?;
        }
        Ok(())
    }

    /// Begins what may be begun; returns how long nothing changes by itself.
    async fn fill(&mut self) -> Result<Duration, WorkerError> {
        loop {
            let (now, instant) = (self.shared.clock.now(), Instant::now());
            if self.at_work.len() >= self.limit() {
                return Ok(LONGEST_SLEEP);
            }
            if let Some(until) = self.paused_until.filter(|until| *until > now) {
                return Ok(wait(now, until));
            }
            if self.next_start > instant {
                return Ok(self.next_start - instant);
            }
            let is_ordered = self.endpoint.ordered;
            let busy = |subject: &Option<String>, subjects: &BTreeSet<String>| {
                is_ordered && subject.as_ref().is_some_and(|subject| subjects.contains(subject))
            };
            if let Some(row) = self.waiting.due(now, is_ordered, |subject| busy(subject, &self.subjects)) {
                let event = self.waiting.event(&self.shared.pool, self.endpoint.id, &row).await?;
                // An operator may have removed it.
                let Some(event) = event else { continue };
                self.begin(Item {
                    position: row.position,
                    key: row.key,
                    ty: row.ty,
                    subject: row.subject,
                    event: event.into(),
                    attempts: row.attempts,
                    first_at: Some(row.first_at),
                    logged_at: None,
                    is_retry: true,
                });
                continue;
            }
            if self.waiting.is_stale() {
                self.waiting.load(&self.shared.pool, self.endpoint.id, self.shared.clock.now()).await?;
                continue;
            }
            let next_due = self.waiting.next(now).map_or(LONGEST_SLEEP, |next| wait(now, next));
            if !self.takes_new() {
                return Ok(next_due);
            }
            match self.next_new(now).await? {
                Next::Event(item) => self.begin(item),
                Next::Nothing => return Ok(next_due),
                // A long row of events that it does not want is no reason to hold the thread.
                Next::Later => tokio::task::consume_budget().await,
            }
        }
    }

    fn begin(&mut self, item: Item) {
        if !item.is_retry {
            self.outstanding.insert(item.position);
        }
        if self.endpoint.ordered
            && let Some(subject) = &item.subject
        {
            self.subjects.insert(subject.clone());
        }
        let rates = [self.endpoint.rate, self.endpoint.allowed_rate].into_iter().flatten();
        if let Some(rate) = rates.min().and_then(|rate| u32::try_from(rate).ok()).filter(|rate| *rate > 0) {
            self.next_start = Instant::now() + Duration::from_secs(60) / rate;
        }
        let (target, now) = (self.target.clone(), self.shared.clock.now());
        self.at_work.push(
            async move {
                let ended = target.attempt(item.key, item.event.clone(), now).await;
                (item, ended)
            }
            .boxed(),
        );
    }

    fn limit(&self) -> usize {
        if self.failures >= DOUBTFUL {
            1
        } else {
            usize::try_from(self.endpoint.concurrency).unwrap_or(1).max(1)
        }
    }

    /// Whether events of the log may be begun. A dead endpoint is tried with what waits; its cursor stands still.
    fn takes_new(&self) -> bool {
        !self.waiting.is_full() && (self.failures < DOUBTFUL || self.waiting.is_empty())
    }

    /// The next event of the log that the endpoint wants.
    async fn next_new(&mut self, now: DateTime<Utc>) -> Result<Next, WorkerError> {
        if self.buffer.is_empty() {
            let entries = self.shared.tail.after(self.read, READ).await?;
            if entries.is_empty() {
                return Ok(Next::Nothing);
            }
            self.buffer.extend(entries);
        }
        let Some(entry) = self.buffer.front().cloned() else { return Ok(Next::Nothing) };
        let is_wanted =
            allowed::may_receive(&self.partner, &entry.ty) && self.filter.wants(&entry.ty, &entry.attributes);
        let subject = entry.subject().map(str::to_owned);
        let mut is_kept = false;
        if is_wanted && self.endpoint.ordered {
            if subject.as_ref().is_some_and(|subject| self.subjects.contains(subject)) {
                return Ok(Next::Nothing);
            }
            if self.waiting.has_subject(subject.as_deref()) {
                self.hold_back(&entry, now).await?;
                is_kept = true;
            }
        }
        self.buffer.pop_front();
        self.read = entry.position;
        if !is_wanted || is_kept {
            self.moved();
            return Ok(Next::Later);
        }
        Ok(Next::Event(Item {
            position: entry.position,
            key: entry.key,
            ty: entry.ty.clone(),
            subject,
            event: entry.event.clone(),
            attempts: 0,
            first_at: None,
            logged_at: Some(entry.logged_at),
            is_retry: false,
        }))
    }

    /// Keeps an event whose subject has an earlier one that waits.
    async fn hold_back(&mut self, entry: &Entry, now: DateTime<Utc>) -> Result<(), WorkerError> {
        let row = Row {
            position: entry.position,
            key: entry.key,
            ty: entry.ty.clone(),
            subject: entry.subject().map(str::to_owned),
            event: entry.event.to_vec(),
            attempts: 0,
            first_at: now,
            next_at: now,
        };
        let error = "it waits for an earlier event of its subject";
        self.keep(row, Failed { endpoint: self.endpoint.id, is_dead: false, error, status: None }).await
    }

    async fn keep(&mut self, row: Row, failed: Failed<'_>) -> Result<(), WorkerError> {
        let mut connection = self.shared.pool.get().await?;
        let is_dead = failed.is_dead;
        deliveries::keep(&mut connection, failed, &row).await?;
        if !is_dead {
            self.waiting.add(row);
        }
        Ok(())
    }

    /// Writes down how a delivery ended; returns whether to go on.
    async fn settle(&mut self, item: Item, ended: Ended) -> Result<bool, WorkerError> {
        if let Some(subject) = &item.subject {
            self.subjects.remove(subject);
        }
        let position = item.position;
        let goes_on = match ended {
            Ended::Taken => {
                self.taken(&item).await?;
                true
            }
            Ended::Failed(failure) => self.failed(item, failure).await?,
            Ended::Gone => {
                let failure = Failure { error: "it is gone (410)".to_owned(), status: Some(410), wait: None };
                self.not_taken(item, failure).await?;
                self.disable("it answered 410 Gone").await?;
                false
            }
        };
        self.outstanding.remove(&position);
        self.moved();
        Ok(goes_on)
    }

    async fn taken(&mut self, item: &Item) -> Result<(), WorkerError> {
        let id = self.endpoint.id;
        let came = self.shared.clock.now();
        metrics::pushed("taken", item.attempts.saturating_add(1));
        if let Some(logged_at) = item.logged_at {
            metrics::push_delay(elapsed(logged_at, came));
        }
        let was_failing = self.endpoint.failing_since.take().is_some();
        self.failures = 0;
        self.paused_until = None;
        if !item.is_retry && !was_failing {
            return Ok(());
        }
        let mut connection = self.shared.pool.get().await?;
        if item.is_retry
            && let Some(logged_at) = deliveries::taken(&mut connection, id, item.position).await?
        {
            metrics::push_delay(elapsed(logged_at, came));
        }
        if was_failing {
            info!(endpoint = %id, "takes events again");
            endpoints::set_failing(&mut connection, id, None).await?;
            deliveries::hasten(&mut connection, id, self.shared.clock.now()).await?;
            drop(connection);
            self.waiting.load(&self.shared.pool, id, self.shared.clock.now()).await?;
        }
        Ok(())
    }

    async fn failed(&mut self, item: Item, failure: Failure) -> Result<bool, WorkerError> {
        let now = self.shared.clock.now();
        self.failures = self.failures.saturating_add(1);
        if matches!(failure.status, Some(429 | 503)) {
            self.paused_until =
                failure.wait.and_then(|wait| chrono::Duration::from_std(wait).ok()).map(|wait| now + wait);
        }
        self.not_taken(item, failure).await?;
        match self.endpoint.failing_since {
            None => {
                warn!(endpoint = %self.endpoint.id, "does not take an event; it is tried again");
                let mut connection = self.shared.pool.get().await?;
                endpoints::set_failing(&mut connection, self.endpoint.id, Some(now)).await?;
                self.endpoint.failing_since = Some(now);
                Ok(true)
            }
            Some(since) if elapsed(since, now) >= self.shared.delivery.disable_after => {
                self.disable("every delivery failed for too long").await?;
                Ok(false)
            }
            Some(_) => Ok(true),
        }
    }

    /// Keeps an event for another time, or as a dead letter.
    async fn not_taken(&mut self, item: Item, failure: Failure) -> Result<(), WorkerError> {
        let now = self.shared.clock.now();
        let attempts = item.attempts.saturating_add(1);
        let first_at = item.first_at.unwrap_or(now);
        let is_dead = elapsed(first_at, now) >= self.shared.delivery.give_up_after;
        let pause = schedule::pause(&self.shared.delivery, attempts, &self.shared.random);
        let pause = pause.max(failure.wait.unwrap_or_default());
        let next_at = if is_dead { now } else { now + chrono::Duration::from_std(pause).unwrap_or_default() };
        let row = Row {
            position: item.position,
            key: item.key,
            ty: item.ty,
            subject: item.subject,
            event: item.event.to_vec(),
            attempts,
            first_at,
            next_at,
        };
        let failed = Failed {
            endpoint: self.endpoint.id,
            is_dead,
            error: &failure.error,
            status: failure.status.map(i32::from),
        };
        self.keep(row, failed).await?;
        metrics::pushed(if is_dead { "dead" } else { "retry" }, attempts);
        Ok(())
    }

    async fn disable(&mut self, reason: &'static str) -> Result<(), WorkerError> {
        warn!(endpoint = %self.endpoint.id, reason, "is disabled");
        owner::disable(&self.shared, &self.endpoint, &self.partner, reason).await?;
        Ok(())
    }

    /// Tells how far everything is settled.
    fn moved(&self) {
        let cursor = self.outstanding.first().map_or(self.read, |first| first - 1);
        let mut cursors = self.shared.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.insert(self.endpoint.id, cursor);
    }
}

/// Returns when the worker is to stop, also when nobody is there any more who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

/// What comes next of the log.
enum Next {
    /// This one.
    Event(Item),
    /// Nothing for now.
    Nothing,
    /// What was read is settled: look again.
    Later,
}

fn wait(now: DateTime<Utc>, until: DateTime<Utc>) -> Duration {
    until.signed_duration_since(now).to_std().unwrap_or_default().min(LONGEST_SLEEP)
}

fn elapsed(since: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    now.signed_duration_since(since).to_std().unwrap_or_default()
}
