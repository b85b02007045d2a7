//! What the supervisor keeps of each actor over all of its lives, and what an operator sees of it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use serde::Serialize;
use tokio::task::{AbortHandle, JoinError};

use super::mailbox::{Admission, Figures};

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// Alive.
    Running,
    /// Between two lives.
    Waiting,
    /// Ended because it was asked to.
    Stopped,
}

/// What an operator sees of an actor.
#[derive(Debug, Clone, Serialize)]
pub struct ActorStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: ActorState,
    /// Lives before this one.
    pub restarts: u64,
    /// Messages that wait for their place.
    pub waiting: u64,
    /// What it has begun and not finished: messages, rows, jobs.
    pub at_work: u64,
    /// How many messages may wait.
    pub capacity: usize,
    /// How many may be at work at once.
    pub concurrency: usize,
    /// Messages that were refused because as many waited as may.
    pub refused: u64,
    /// Messages whose work panicked.
    pub failures: u64,
    /// How its last life, or its last failed message, ended.
    pub last_error: Option<String>,
}

/// Why a life ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// It returned an error; a dependency is away.
    Failed(String),
    /// It panicked.
    Panicked(String),
    /// It was cancelled, since it made no progress.
    Cancelled,
}

/// One actor, over all of its lives.
pub(super) struct Record {
    pub number: u64,
    pub name: String,
    pub admission: Admission,
    /// Whether it takes work in by itself, so that it ends before those whom it asks.
    pub takes_in: AtomicBool,
    stall_limit: Duration,
    lifecycle: Mutex<Lifecycle>,
}

struct Lifecycle {
    state: ActorState,
    restarts: u64,
    /// Cancels its present life.
    life: Option<AbortHandle>,
    /// Why its present life was cancelled.
    cancelled: Option<String>,
}

impl Record {
    pub fn new(number: u64, name: String, admission: Admission, stall_limit: Duration) -> Self {
        let lifecycle = Lifecycle { state: ActorState::Running, restarts: 0, life: None, cancelled: None };
        let takes_in = AtomicBool::new(false);
        Self { number, name, admission, takes_in, stall_limit, lifecycle: Mutex::new(lifecycle) }
    }

    /// Makes its present life one that can be cancelled.
    pub fn lives_by(&self, life: AbortHandle) {
        lock(&self.lifecycle).life = Some(life);
    }

    /// A life ended, and the next one is started after a pause.
    pub fn life_ended(&self, text: String) {
        self.admission.set_error(text);
        let mut lifecycle = lock(&self.lifecycle);
        lifecycle.state = ActorState::Waiting;
        lifecycle.restarts += 1;
        lifecycle.life = None;
    }

    pub fn set_state(&self, state: ActorState) {
        lock(&self.lifecycle).state = state;
    }

    /// Why its present life was cancelled.
    pub fn cancelled(&self) -> Option<String> {
        lock(&self.lifecycle).cancelled.take()
    }

    fn cancel_stalled(&self) {
        let progress = self.admission.progress();
        let stalled = progress.stalled_for();
        if stalled <= self.stall_limit {
            return;
        }
        let mut lifecycle = lock(&self.lifecycle);
        if let Some(life) = lifecycle.life.take() {
            let at_work = progress.at_work();
            // Whoever keeps it alive logs it: the log may be what is blocked.
            lifecycle.cancelled =
                Some(format!("no progress for {} s with {at_work} at work", stalled.as_secs()));
            life.abort();
        }
    }

    /// Cancels its present life for `why`; false where there is none to cancel.
    pub fn cancel(&self, why: &str) -> bool {
        let mut lifecycle = lock(&self.lifecycle);
        let Some(life) = lifecycle.life.take() else { return false };
        lifecycle.cancelled = Some(why.to_owned());
        life.abort();
        true
    }

    pub fn status(&self) -> ActorStatus {
        let Figures { waiting, at_work, mailbox, refused, failures, last_error } = self.admission.figures();
        let lifecycle = lock(&self.lifecycle);
        ActorStatus {
            name: self.name.clone(),
            state: lifecycle.state,
            restarts: lifecycle.restarts,
            waiting,
            at_work,
            capacity: mailbox.capacity,
            concurrency: mailbox.concurrency,
            refused,
            failures,
            last_error,
        }
    }
}

/// The actors of one process.
#[derive(Default)]
pub(super) struct Records {
    kept: Mutex<Vec<Arc<Record>>>,
    transient: Mutex<Transient>,
}

/// The actors of one life each. An operator sees those of a name together: there may be thousands of them.
#[derive(Default)]
struct Transient {
    alive: HashMap<u64, Arc<Record>>,
    /// What those that have ended leave, by their name.
    ended: BTreeMap<String, Ended>,
}

/// The figures of actors that have ended.
#[derive(Default)]
struct Ended {
    /// Lives that ended badly.
    badly: u64,
    refused: u64,
    failures: u64,
    last_error: Option<String>,
}

impl Records {
    pub fn add(&self, record: Arc<Record>) {
        lock(&self.kept).push(record);
    }

    pub fn add_transient(&self, record: Arc<Record>) {
        lock(&self.transient).alive.insert(record.number, record);
    }

    /// An actor of one life has ended; `error` tells how, if it ended badly.
    pub fn remove_transient(&self, record: &Record, error: Option<String>) {
        let figures = record.admission.figures();
        let mut transient = lock(&self.transient);
        transient.alive.remove(&record.number);
        let ended = transient.ended.entry(record.name.clone()).or_default();
        ended.badly += u64::from(error.is_some());
        ended.refused += figures.refused;
        ended.failures += figures.failures;
        ended.last_error = error.or(figures.last_error).or_else(|| ended.last_error.take());
    }

    pub fn cancel_stalled(&self) {
        lock(&self.kept).iter().for_each(|record| record.cancel_stalled());
        lock(&self.transient).alive.values().for_each(|record| record.cancel_stalled());
    }

    /// Cancels the present life of the actor of that name.
    pub fn cancel(&self, name: &str, why: &str) -> bool {
        lock(&self.kept).iter().filter(|record| record.name == name).any(|record| record.cancel(why))
    }

    pub fn name(&self, number: u64) -> Option<String> {
        let kept =
            lock(&self.kept).iter().find(|record| record.number == number).map(|record| record.name.clone());
        kept.or_else(|| lock(&self.transient).alive.get(&number).map(|record| record.name.clone()))
    }

    pub fn status(&self) -> Vec<ActorStatus> {
        let mut all: Vec<_> = lock(&self.kept).iter().map(|record| record.status()).collect();
        all.extend(lock(&self.transient).status());
        all
    }
}

impl Transient {
    /// One line a name: the sums of those that are alive, and what those that have ended left.
    fn status(&self) -> Vec<ActorStatus> {
        let mut by_name = BTreeMap::<&str, ActorStatus>::new();
        for (name, ended) in &self.ended {
            by_name.insert(
                name,
                ActorStatus {
                    name: name.clone(),
                    state: ActorState::Running,
                    restarts: ended.badly,
                    waiting: 0,
                    at_work: 0,
                    capacity: 0,
                    concurrency: 0,
                    refused: ended.refused,
                    failures: ended.failures,
                    last_error: ended.last_error.clone(),
                },
            );
        }
        for record in self.alive.values() {
            let one = record.status();
            match by_name.get_mut(record.name.as_str()) {
                Some(all) => {
                    all.waiting += one.waiting;
                    all.at_work += one.at_work;
                    all.capacity = all.capacity.saturating_add(one.capacity);
                    all.concurrency = all.concurrency.saturating_add(one.concurrency);
                    all.refused += one.refused;
                    all.failures += one.failures;
                    all.last_error = one.last_error.or_else(|| all.last_error.take());
                }
                None => {
                    by_name.insert(&record.name, one);
                }
            }
        }
        by_name.into_values().collect()
    }
}

/// How a life ended that did not return.
pub(super) fn ended(error: JoinError) -> End {
    match error.try_into_panic() {
        Ok(panic) => End::Panicked(panic_text(&*panic)),
        Err(_) => End::Cancelled,
    }
}

/// The text of a panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a text".to_owned())
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced as a whole: a panic in between leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
