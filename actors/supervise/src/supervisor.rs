//! The supervisor: keeps each actor alive over its lives, with a pause between two of them, and ends them all. What a life is lives in `life`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_rt::ArbiterHandle;
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

use super::{
    Progress, Shutdown, ShutdownTrigger,
    arbiter::ActorThread,
    backoff::Backoff,
    mailbox::{Admission, Mailbox},
    record::{ActorState, ActorStatus, End, Record, Records, lock},
    watchdog,
};
use crate::random::Random;

/// A life that lasted so long begins the pauses anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// The share of the grace after which those who only answer are asked to end, whether those who ask have ended or not.
const TAKING_IN: f64 = 0.8;
/// How often it is looked whether a thread has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Actors of all supervisors are numbered from 1.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How long actors may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For everything to end once it is asked to.
    pub grace: Duration,
    /// For some progress, while there is work; then the life is cancelled.
    pub stall: Duration,
    /// For giving the thread back; then the process ends.
    pub blocked: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            blocked: Duration::from_secs(60),
        }
    }
}

/// Counts a life, a subscription or a thread while it is held.
pub(super) struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Clone for Live {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The threads that actors own, to be joined.
#[derive(Clone, Default)]
pub(super) struct ThreadList(Arc<Mutex<Vec<thread::JoinHandle<()>>>>);

impl ThreadList {
    pub fn add(&self, thread: thread::JoinHandle<()>) {
        let mut threads = lock(&self.0);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }
}

/// What the lives of an actor use of their supervisor; it does not keep the supervisor.
pub(super) struct Lent {
    pub main: tokio::runtime::Handle,
    pub shutdown: Shutdown,
    /// Turns true when those who take work in have ended.
    pub closing: watch::Receiver<bool>,
    pub threads: ThreadList,
    count: Arc<AtomicUsize>,
}

impl Lent {
    pub fn live(&self) -> Live {
        Live::new(&self.count)
    }
}

/// Who is kept alive, and the task that does it.
type Task = (Arc<Record>, JoinHandle<()>);

/// The tasks of actors of one life, by the actor's number; none once a shutdown has taken them.
type TransientTasks = Option<HashMap<u64, Task>>;

/// Holds the actors of one process; they end when the last clone is dropped.
#[derive(Clone)]
pub struct Supervisor {
    main: &'static Runtime,
    random: Random,
    limits: Limits,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    closing: watch::Sender<bool>,
    records: Arc<Records>,
    /// The tasks that keep them alive.
    tasks: Arc<Mutex<Vec<Task>>>,
    transient: Arc<Mutex<TransientTasks>>,
    thread: Arc<Mutex<ActorThread>>,
    threads: ThreadList,
    count: Arc<AtomicUsize>,
}

impl Supervisor {
    /// A supervisor without actors, whose clients and subscriptions run on `main`, with the thread of the actors and the one that watches
    /// them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(main: &'static Runtime, random: Random, limits: Limits) -> std::io::Result<Self> {
        let (trigger, shutdown) = ShutdownTrigger::new();
        let records = Arc::<Records>::default();
        watchdog::start(Arc::downgrade(&records), limits.blocked)?;
        Ok(Self {
            main,
            random,
            limits,
            trigger,
            shutdown,
            closing: watch::Sender::new(false),
            records,
            tasks: Arc::default(),
            transient: Arc::new(Mutex::new(Some(HashMap::new()))),
            thread: Arc::new(Mutex::new(ActorThread::start(main)?)),
            threads: ThreadList::default(),
            count: Arc::default(),
        })
    }

    /// What actors listen to.
    pub fn shutdown_signal(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// What the actors are doing.
    pub fn status(&self) -> Vec<ActorStatus> {
        self.records.status()
    }

    /// Ends the present life of the actor of that name for `why`, in words for an operator; the next one is started after a pause. False
    /// when there is no such actor, or no life of it at present. What was at work is cut off at its next wait, as when it stalls.
    pub fn restart(&self, name: &str, why: &str) -> bool {
        self.records.cancel(name, why)
    }

    /// How many lives, subscriptions and threads of actors there are; none after a shutdown, unless its grace was too short.
    pub fn live(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn live_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    #[cfg(test)]
    pub(super) fn is_thread_joined(&self) -> bool {
        lock(&self.thread).stop().is_none() && lock(&self.threads.0).is_empty()
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn lent(&self) -> Lent {
        Lent {
            main: self.main.handle().clone(),
            shutdown: self.shutdown.clone(),
            closing: self.closing.subscribe(),
            threads: self.threads.clone(),
            count: Arc::clone(&self.count),
        }
    }

    pub(super) fn arbiter(&self) -> ArbiterHandle {
        lock(&self.thread).arbiter()
    }

    /// An actor in the list.
    pub(super) fn record(&self, name: String, mailbox: Mailbox, stall_limit: Duration) -> Arc<Record> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let admission = Admission::with(name.clone(), mailbox, Progress::of(number));
        let record = Arc::new(Record::new(number, name, admission, stall_limit));
        self.records.add(Arc::clone(&record));
        record
    }

    /// An actor of one life; it is in no list before its life is begun by `live_once`.
    pub(super) fn transient_record(&self, name: String, mailbox: Mailbox) -> Arc<Record> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let admission = Admission::with(name.clone(), mailbox, Progress::of(number));
        Arc::new(Record::new(number, name, admission, self.limits.stall))
    }

    /// Lives the one life of an actor by `next`, then calls `over` and forgets it. After a shutdown nothing is begun.
    pub(super) fn live_once<F, Fut, O>(&self, record: Arc<Record>, next: F, over: O)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = End> + Send + 'static,
        O: FnOnce() + Send + 'static,
    {
        let mut tasks = lock(&self.transient);
        let Some(tasks) = tasks.as_mut() else { return over() };
        self.records.add_transient(Arc::clone(&record));
        let (kept, records, list) =
            (Arc::clone(&record), Arc::clone(&self.records), Arc::clone(&self.transient));
        // It cannot be over before it is in the list, whose lock is held here.
        let task = self.main.spawn(async move {
            let error = match next().await {
                End::Stopped => None,
                End::Failed(error) => Some(error),
                End::Panicked(text) => Some(format!("panicked: {text}")),
                End::Cancelled => Some(record.cancelled().unwrap_or_else(|| "it was cancelled".to_owned())),
            };
            if let Some(error) = &error {
                error!(actor = record.name, error, "ended badly, and is not started again");
            }
            over();
            records.remove_transient(&record, error);
            if let Some(tasks) = lock(&list).as_mut() {
                tasks.remove(&record.number);
            }
        });
        tasks.insert(kept.number, (kept, task));
    }

    /// Begins one life after the other by `next`, until the shutdown; then calls `over`.
    pub(super) fn keep_alive<F, Fut, O>(&self, record: Arc<Record>, next: F, over: O)
    where
        F: Fn(&Arc<Record>) -> Fut + Send + 'static,
        Fut: Future<Output = End> + Send + 'static,
        O: FnOnce() + Send + 'static,
    {
        let (mut shutdown, random) = (self.shutdown.clone(), self.random.clone());
        let kept = Arc::clone(&record);
        let task = self.main.spawn(async move {
            let mut failures = Backoff::dependency();
            let mut panics = Backoff::panic();
            loop {
                let born = Instant::now();
                let end = next(&record).await;
                if shutdown.is_requested() {
                    if let End::Failed(error) | End::Panicked(error) = end {
                        warn!(actor = record.name, error, "ended badly during the shutdown");
                    }
                    break;
                }
                if born.elapsed() >= HEALTHY {
                    failures.reset();
                    panics.reset();
                }
                let (text, pause) = match end {
                    End::Stopped => ("it returned".to_owned(), failures.next(&random)),
                    End::Failed(error) => (error, failures.next(&random)),
                    End::Panicked(text) => (format!("panicked: {text}"), panics.next(&random)),
                    End::Cancelled => {
                        let why = record.cancelled();
                        (why.unwrap_or_else(|| "it was cancelled".to_owned()), panics.next(&random))
                    }
                };
                error!(
                    actor = record.name,
                    error = text,
                    pause_ms = pause.as_millis(),
                    "ended, is started again"
                );
                record.life_ended(text);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.requested() => break,
                }
                record.set_state(ActorState::Running);
            }
            over();
            record.set_state(ActorState::Stopped);
        });
        lock(&self.tasks).push((kept, task));
    }

    /// Asks every actor to end and waits for them, `grace` at most.
    pub async fn shutdown(&self) {
        self.shutdown_within(self.limits.grace).await;
    }

    /// The same with what is left of the grace. Those who take work in end first, and then those whom they ask.
    pub async fn shutdown_within(&self, grace: Duration) {
        let end = Instant::now() + grace;
        self.trigger.shutdown_within(grace);
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.extend(lock(&self.transient).take().into_iter().flat_map(HashMap::into_values));
        let (first, rest): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|(record, _)| record.takes_in.load(Ordering::Relaxed));
        // Those that are not over by then go on beside the others.
        let first = self.main.spawn(join(first));
        let _late = tokio::time::timeout(grace.mul_f64(TAKING_IN), async {
            while !first.is_finished() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        self.closing.send_replace(true);
        let all = async {
            if let Err(error) = first.await {
                error!(%error, "a supervising task ended early");
            }
            join(rest).await;
        };
        if tokio::time::timeout(left(end), all).await.is_ok() {
            self.join_threads(end).await;
        }
        match self.live() {
            0 => info!("every actor ended"),
            live => warn!(grace_ms = grace.as_millis(), live, "the grace is over, the rest is cut off"),
        }
    }

    /// Waits for what was cut off, and joins the threads; those that do not end in time end with the process.
    async fn join_threads(&self, end: Instant) {
        let mut threads = std::mem::take(&mut *lock(&self.threads.0));
        threads.extend(lock(&self.thread).stop());
        let is_over = || self.live() == 0 && threads.iter().all(thread::JoinHandle::is_finished);
        while !is_over() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        for thread in threads.into_iter().filter(thread::JoinHandle::is_finished) {
            if thread.join().is_err() {
                error!("a thread of an actor panicked");
            }
        }
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

async fn join(tasks: Vec<(Arc<Record>, JoinHandle<()>)>) {
    for (record, task) in tasks {
        if let Err(error) = task.await {
            error!(actor = record.name, %error, "a supervising task ended early");
        }
    }
}
