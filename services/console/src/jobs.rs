//! Redriving and dropping from a page: each job waits a while in which it can be undone, then goes on at its pace, one job after the other, by a supervised actor. What
//! is known of jobs is in memory: a process that ends stops them, and the letters that were not dealt with stay where they are.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use orrery_store::{StoreError, dead_letters::Filter};
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown, clock::Clock};
use serde::Serialize;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use crate::{
    batches::{self, Batches, Deed},
    operator::{self, Begun, Operator},
    text,
};

/// Jobs that are remembered.
const REMEMBERED: usize = 50;
/// Jobs that may wait.
const WAITING: usize = 20;

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can be undone.
    Waiting,
    /// It is dealing with letters.
    Running,
    /// It is over.
    Done,
    /// It was undone before it began.
    Undone,
    /// It was stopped midway.
    Stopped,
    /// It failed midway, and why.
    Failed(String),
}

impl State {
    fn is_over(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// A job as a page shows it.
#[derive(Debug, Clone, Serialize)]
pub struct JobRow {
    /// Its id.
    pub id: Uuid,
    /// dead.redrive or dead.drop.
    pub action: &'static str,
    /// Which letters, in words.
    pub target: String,
    /// Who asked for it.
    pub actor: String,
    /// How many letters were chosen.
    pub total: u64,
    /// How many are dealt with.
    pub done: u64,
    /// The share of them in percent.
    pub percent: u64,
    /// Where it is.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// When it begins.
    pub starts_at: DateTime<Utc>,
}

struct Job {
    row: JobRow,
    state: State,
    filter: Filter,
    until: DateTime<Utc>,
    deed: Deed,
    rate: Option<u32>,
    operator: Operator,
    begun: Option<Begun>,
    stop: bool,
}

/// The list of jobs; clones are the same one.
#[derive(Clone)]
pub struct Jobs {
    list: Arc<Mutex<VecDeque<Job>>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    clock: Clock,
    undo: Duration,
}

/// A job was not taken.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The database is away or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No letter matches.
    #[error("no dead letter matches; another operator may have dealt with it")]
    Nothing,
    /// Nobody would take them.
    #[error("no enabled service has the handler {0}: enable it and run 'orrery migrate', or choose others")]
    Homeless(String),
    /// Too many wait already.
    #[error("as many jobs wait as may: wait until some are over, or undo some")]
    Full,
}

impl Jobs {
    /// None yet; each waits for `undo` before it begins.
    pub fn new(clock: Clock, undo: Duration) -> Self {
        Self { list: Arc::default(), changes: watch::Sender::new(0), clock, undo }
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All of them, the newest first.
    pub fn rows(&self) -> Vec<JobRow> {
        self.list().iter().rev().map(|job| job.row.clone()).collect()
    }

    /// Takes a job: letters that are there now and that `filter` chooses. `handlers` are those that letters can be sent to.
    ///
    /// # Errors
    /// When nothing matches, nobody would take them, or it cannot be written down.
    pub async fn take(
        &self,
        operator: Operator,
        (actor, handlers): (&str, &[&str]),
        filter: Filter,
        (deed, rate): (Deed, Option<u32>),
        id: Uuid,
    ) -> Result<(), JobError> {
        if self.list().iter().filter(|job| !job.state.is_over()).count() >= WAITING {
            return Err(JobError::Full);
        }
        let (chosen, until) = batches::chosen(operator.pool(), &filter).await?;
        let total: u64 = chosen.iter().map(|(_, letters)| letters).sum();
        if total == 0 {
            return Err(JobError::Nothing);
        }
        if matches!(deed, Deed::Redrive(_)) {
            let homeless = chosen.iter().map(|(handler, _)| handler.as_str());
            let homeless: Vec<_> =
                homeless.filter(|handler| !handlers.contains(handler)).map(text::safe).collect();
            if !homeless.is_empty() {
                return Err(JobError::Homeless(homeless.join(", ")));
            }
        }
        let target = operator::told(&filter, rate);
        let begun = operator.begin(deed.name(), &target).await?;
        let row = JobRow {
            id,
            action: deed.name(),
            target,
            actor: actor.to_owned(),
            total,
            done: 0,
            percent: 0,
            state: "waiting",
            error: None,
            starts_at: self.clock.now() + self.undo,
        };
        let mut list = self.list();
        while list.len() >= REMEMBERED && list.front().is_some_and(|job| job.state.is_over()) {
            list.pop_front();
        }
        let begun = Some(begun);
        list.push_back(Job {
            row,
            state: State::Waiting,
            filter,
            until,
            deed,
            rate,
            operator,
            begun,
            stop: false,
        });
        drop(list);
        self.changed();
        Ok(())
    }

    /// Undoes a job that has not begun, or stops one that has; false when it is over already.
    pub async fn stop(&self, id: Uuid) -> bool {
        let undone = {
            let mut list = self.list();
            let Some(job) = list.iter_mut().find(|job| job.row.id == id && !job.state.is_over()) else {
                return false;
            };
            if job.state == State::Waiting {
                job.set(State::Undone);
                job.begun.take()
            } else {
                job.stop = true;
                None
            }
        };
        self.changed();
        if let Some(begun) = undone {
            told(begun, "undone before it began").await;
        }
        true
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // What is behind the lock is replaced field by field: a panic in between leaves a job that is shown as it was.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Changes a job, unless it is gone.
    fn with(&self, id: Uuid, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.list().iter_mut().find(|job| job.row.id == id) {
            change(job);
        }
        self.changed();
    }

    /// The next job whose time has come, with what it deals with; or how long until then.
    fn next(&self) -> Result<(Uuid, Batches), Duration> {
        let now = self.clock.now();
        let mut list = self.list();
        let waiting = list.iter_mut().filter(|job| job.state == State::Waiting);
        let Some(job) = waiting.min_by_key(|job| job.row.starts_at) else { return Err(Duration::MAX) };
        let left = job.row.starts_at.signed_duration_since(now).to_std().unwrap_or_default();
        if !left.is_zero() {
            return Err(left);
        }
        job.set(State::Running);
        let pool = job.operator.pool().clone();
        Ok((job.row.id, Batches::new(pool, job.filter.clone(), job.until, job.deed, job.rate)))
    }
}

impl Job {
    fn set(&mut self, state: State) {
        self.row.state = match &state {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Done => "done",
            State::Undone => "undone",
            State::Stopped => "stopped",
            State::Failed(_) => "failed",
        };
        if let State::Failed(why) = &state {
            self.row.error = Some(why.clone());
        }
        self.state = state;
    }
}

async fn told(begun: Begun, outcome: &str) {
    if let Err(error) = begun.end(outcome).await {
        warn!(%error, outcome, "the audit log does not tell how it ended");
    }
}

/// The actor that runs jobs.
#[derive(Clone)]
pub struct Runner {
    /// The list.
    pub jobs: Jobs,
    /// The end.
    pub shutdown: Shutdown,
    /// Seen by the watchdog.
    pub progress: Progress,
}

impl Actor for Runner {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        let this = self.clone();
        life.run(async move {
            this.run().await;
            Ok::<_, StoreError>(())
        });
        Ok(())
    }
}

impl Runner {
    async fn run(self) {
        self.left_behind().await;
        let mut changes = self.jobs.changes();
        let mut shutdown = self.shutdown.clone();
        while !shutdown.is_requested() {
            match self.jobs.next() {
                Ok((id, batches)) => self.work(id, batches, &shutdown).await,
                Err(left) => tokio::select! {
                    () = tokio::time::sleep(left.min(Duration::from_secs(3600))) => {}
                    changed = changes.changed() => if changed.is_err() { return },
                    () = shutdown.requested() => {}
                },
            }
        }
    }

    /// Jobs of a life that ended in the middle of them.
    async fn left_behind(&self) {
        let mut left = Vec::new();
        for job in self.jobs.list().iter_mut().filter(|job| job.state == State::Running) {
            job.set(State::Failed("what ran it was started anew; choose what is left".to_owned()));
            left.extend(job.begun.take());
        }
        for begun in left {
            told(begun, "ended midway").await;
        }
    }

    async fn work(&self, id: Uuid, mut batches: Batches, shutdown: &Shutdown) {
        let item = self.progress.begin();
        let state = loop {
            let is_stopped = self.jobs.list().iter().any(|job| job.row.id == id && job.stop);
            if is_stopped || shutdown.is_requested() {
                break State::Stopped;
            }
            match batches.next().await {
                Ok(true) => {
                    self.progress.advance();
                    let done = batches.done();
                    self.jobs.with(id, |job| job.dealt_with(done));
                }
                Ok(false) => break State::Done,
                Err(error) => break State::Failed(error.to_string()),
            }
        };
        item.done();
        let outcome = match &state {
            State::Failed(_) => format!("failed after {}", batches.done()),
            State::Stopped => format!("stopped after {}", batches.done()),
            _ => format!("{} done", batches.done()),
        };
        let mut begun = None;
        self.jobs.with(id, |job| {
            if state == State::Done {
                job.row.percent = 100;
            }
            job.set(state);
            begun = job.begun.take();
        });
        if let Some(begun) = begun {
            told(begun, &outcome).await;
        }
    }
}

impl Job {
    fn dealt_with(&mut self, done: u64) {
        self.row.done = done;
        self.row.percent = (done.saturating_mul(100) / self.row.total.max(1)).min(100);
    }
}
