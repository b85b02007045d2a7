//! The supervisor of loops: futures on the main runtime, each with a factory, a state to show and a pause between lives.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    runtime::Runtime,
    task::{AbortHandle, JoinError, JoinHandle},
};
use tracing::{error, info, warn};

use super::{Pulse, Shutdown, ShutdownTrigger, backoff::Backoff, polls::Seen, watchdog};
use crate::random::Random;

/// A life that lasted so long begins the pauses anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Children of all supervisors are numbered from 1.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How long children may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For everything to end once it is asked to.
    pub grace: Duration,
    /// For some progress, while there is work; then the child is cancelled.
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

/// Where a child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildState {
    /// At work.
    Running,
    /// Between two lives.
    Waiting,
    /// Ended because it was asked to.
    Stopped,
}

/// What an operator sees of a child.
#[derive(Debug, Clone, Serialize)]
pub struct ChildStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: ChildState,
    /// Lives before this one.
    pub restarts: u64,
    /// What it has taken in and not finished: its mailbox's depth.
    pub depth: u64,
    /// How its last life ended, if it ended badly.
    pub last_error: Option<String>,
}

/// Why a life ended.
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

/// One child, over all of its lives.
pub(super) struct Child {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) pulse: Pulse,
    stall_limit: Duration,
    fate: Mutex<Fate>,
}

struct Fate {
    state: ChildState,
    restarts: u64,
    last_error: Option<String>,
    /// Cancels its present life.
    life: Option<AbortHandle>,
    /// Why its present life was cancelled.
    cancelled: Option<String>,
}

impl Child {
    /// Makes its present life one that can be cancelled.
    pub(super) fn lives_by(&self, life: AbortHandle) {
        lock(&self.fate).life = Some(life);
    }

    /// A job of it failed, and it goes on.
    pub(super) fn failed(&self, text: String) {
        let mut fate = lock(&self.fate);
        fate.restarts += 1;
        fate.last_error = Some(text);
    }

    fn cancel_stalled(&self) {
        let stalled = self.pulse.stalled_for();
        if stalled <= self.stall_limit {
            return;
        }
        let mut fate = lock(&self.fate);
        if let Some(life) = fate.life.take() {
            let depth = self.pulse.depth();
            // Whoever keeps it alive logs it: the log may be what is blocked.
            fate.cancelled = Some(format!("no progress for {} s with {depth} at hand", stalled.as_secs()));
            life.abort();
        }
    }

    fn status(&self) -> ChildStatus {
        let fate = lock(&self.fate);
        ChildStatus {
            name: self.name.clone(),
            state: fate.state,
            restarts: fate.restarts,
            depth: self.pulse.depth(),
            last_error: fate.last_error.clone(),
        }
    }
}

/// The children of one process.
#[derive(Default)]
pub(super) struct Children(Mutex<Vec<Arc<Child>>>);

impl Children {
    pub(super) fn cancel_stalled(&self) {
        lock(&self.0).iter().for_each(|child| child.cancel_stalled());
    }

    pub(super) fn name(&self, number: u64) -> Option<String> {
        lock(&self.0).iter().find(|child| child.number == number).map(|child| child.name.clone())
    }
}

/// Holds the children of one process.
#[derive(Clone)]
pub struct Supervisor {
    pub(super) main: &'static Runtime,
    random: Random,
    limits: Limits,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    children: Arc<Children>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Supervisor {
    /// A supervisor without children, whose loops run on `main`, and the thread that watches them.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(main: &'static Runtime, random: Random, limits: Limits) -> std::io::Result<Self> {
        let (trigger, shutdown) = ShutdownTrigger::new();
        let children = Arc::<Children>::default();
        watchdog::start(Arc::downgrade(&children), limits.blocked)?;
        Ok(Self { main, random, limits, trigger, shutdown, children, tasks: Arc::default() })
    }

    /// What children listen to.
    pub fn shutdown_signal(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Starts a child and keeps it alive: `factory` builds each of its lives.
    pub fn start<F, Fut, E>(&self, name: impl Into<String>, factory: F)
    where
        F: Fn(Pulse) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + 'static,
    {
        self.start_within(name, self.limits.stall, factory);
    }

    /// The same for a child whose single steps may take longer than usual: `stall_limit` without progress.
    pub fn start_within<F, Fut, E>(&self, name: impl Into<String>, stall_limit: Duration, factory: F)
    where
        F: Fn(Pulse) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + 'static,
    {
        let main = self.main.handle().clone();
        let child = self.adopt(name.into(), stall_limit);
        self.keep_alive(child, move |child| {
            let built = catch_unwind(AssertUnwindSafe(|| factory(child.pulse.clone())));
            let life = built.map(|future| {
                let life = main.spawn(Seen::new(child.number, future));
                child.lives_by(life.abort_handle());
                life
            });
            async move {
                match life {
                    Ok(life) => match life.await {
                        Ok(Ok(())) => End::Stopped,
                        Ok(Err(error)) => End::Failed(chain(&error)),
                        Err(error) => ended(error),
                    },
                    Err(_) => End::Panicked("its factory panicked".to_owned()),
                }
            }
        });
    }

    /// A child in the list.
    pub(super) fn adopt(&self, name: String, stall_limit: Duration) -> Arc<Child> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let child = Arc::new(Child {
            number,
            name,
            pulse: Pulse::of(number),
            stall_limit,
            fate: Mutex::new(Fate {
                state: ChildState::Running,
                restarts: 0,
                last_error: None,
                life: None,
                cancelled: None,
            }),
        });
        lock(&self.children.0).push(Arc::clone(&child));
        child
    }

    /// The usual limit for some progress.
    pub(super) fn stall_limit(&self) -> Duration {
        self.limits.stall
    }

    pub(super) fn keep_alive<F, Fut>(&self, child: Arc<Child>, life: F)
    where
        F: Fn(&Arc<Child>) -> Fut + Send + 'static,
        Fut: Future<Output = End> + Send + 'static,
    {
        let mut shutdown = self.shutdown.clone();
        let random = self.random.clone();
        let task = self.main.spawn(async move {
            let mut failures = Backoff::dependency();
            let mut panics = Backoff::panic();
            loop {
                let born = Instant::now();
                let end = life(&child).await;
                if shutdown.is_requested() {
                    if let End::Failed(error) | End::Panicked(error) = end {
                        warn!(child = child.name, error, "ended badly during the shutdown");
                    }
                    lock(&child.fate).state = ChildState::Stopped;
                    return;
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
                        let why = lock(&child.fate).cancelled.take();
                        (why.unwrap_or_else(|| "it was cancelled".to_owned()), panics.next(&random))
                    }
                };
                error!(
                    child = child.name,
                    error = text,
                    pause_ms = pause.as_millis(),
                    "ended, is built anew"
                );
                {
                    let mut fate = lock(&child.fate);
                    fate.state = ChildState::Waiting;
                    fate.restarts += 1;
                    fate.last_error = Some(text);
                    fate.life = None;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.requested() => {
                        lock(&child.fate).state = ChildState::Stopped;
                        return;
                    }
                }
                lock(&child.fate).state = ChildState::Running;
            }
        });
        lock(&self.tasks).push(task);
    }

    /// What the children are doing.
    pub fn status(&self) -> Vec<ChildStatus> {
        lock(&self.children.0).iter().map(|child| child.status()).collect()
    }

    /// Asks every child to end and waits for them, `grace` at most.
    pub async fn shutdown(&self) {
        self.shutdown_within(self.limits.grace).await;
    }

    /// The same with what is left of the grace.
    pub async fn shutdown_within(&self, grace: Duration) {
        self.trigger.shutdown_within(grace);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        let all = async {
            for task in tasks {
                if let Err(error) = task.await {
                    error!(%error, "a supervising task ended early");
                }
            }
        };
        match tokio::time::timeout(grace, all).await {
            Ok(()) => info!("every actor ended"),
            Err(_) => {
                warn!(grace_ms = grace.as_millis(), "the grace is over, the rest is cut off");
            }
        }
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

fn chain(error: &dyn Error) -> String {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced as a whole: a panic in between leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
