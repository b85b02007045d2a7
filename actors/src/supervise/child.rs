//! The supervisor of loops: futures on the main runtime, each with a factory, a state to show and a pause between lives.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{runtime::Runtime, task::JoinHandle};
use tracing::{error, info, warn};

use super::{Shutdown, ShutdownTrigger, backoff::Backoff};
use crate::random::Random;

/// A life that lasted so long begins the pauses anew.
const HEALTHY: Duration = Duration::from_secs(60);

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
}

/// Holds the children of one process.
#[derive(Clone)]
pub struct Supervisor {
    pub(super) main: &'static Runtime,
    pub(super) random: Random,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
    children: Arc<Mutex<Vec<Arc<Mutex<ChildStatus>>>>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Supervisor {
    /// A supervisor without children, whose loops run on `main`.
    pub fn new(main: &'static Runtime, random: Random, grace: Duration) -> Self {
        let (trigger, shutdown) = ShutdownTrigger::new(grace);
        Self { main, random, trigger, shutdown, children: Arc::default(), tasks: Arc::default() }
    }

    /// What children listen to.
    pub fn shutdown_signal(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Starts a child and keeps it alive: `factory` builds each of its lives.
    pub fn start<F, Fut, E>(&self, name: impl Into<String>, factory: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + 'static,
    {
        let main = self.main.handle().clone();
        let life = move || {
            let life = main.spawn(factory());
            async move {
                match life.await {
                    Ok(Ok(())) => End::Stopped,
                    Ok(Err(error)) => End::Failed(chain(&error)),
                    Err(error) => End::Panicked(panic_text(error)),
                }
            }
        };
        self.keep_alive(name.into(), life);
    }

    pub(super) fn keep_alive<F, Fut>(&self, name: String, life: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = End> + Send + 'static,
    {
        let status = Arc::new(Mutex::new(ChildStatus {
            name: name.clone(),
            state: ChildState::Running,
            restarts: 0,
            last_error: None,
        }));
        lock(&self.children).push(Arc::clone(&status));
        let mut shutdown = self.shutdown.clone();
        let random = self.random.clone();
        let task = self.main.spawn(async move {
            let mut failures = Backoff::dependency();
            let mut panics = Backoff::panic();
            loop {
                let born = Instant::now();
                let end = life().await;
                if shutdown.is_requested() {
                    if let End::Failed(error) | End::Panicked(error) = end {
                        warn!(child = name, error, "ended badly during the shutdown");
                    }
                    lock(&status).state = ChildState::Stopped;
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
                };
                error!(child = name, error = text, pause_ms = pause.as_millis(), "ended, is built anew");
                {
                    let mut status = lock(&status);
                    status.state = ChildState::Waiting;
                    status.restarts += 1;
                    status.last_error = Some(text);
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.requested() => {
                        lock(&status).state = ChildState::Stopped;
                        return;
                    }
                }
                lock(&status).state = ChildState::Running;
            }
        });
        lock(&self.tasks).push(task);
    }

    /// What the children are doing.
    pub fn status(&self) -> Vec<ChildStatus> {
        lock(&self.children).iter().map(|status| lock(status).clone()).collect()
    }

    /// Asks every child to end and waits for them, `grace` at most.
    pub async fn shutdown(&self, grace: Duration) {
        self.trigger.shutdown();
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
            Err(_) => warn!(grace_ms = grace.as_millis(), "the grace is over, the rest is cut off"),
        }
    }
}

pub(super) fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a text".to_owned()),
        Err(error) => error.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn runtime() -> &'static Runtime {
        Box::leak(Box::new(Runtime::new().unwrap()))
    }

    async fn until(condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < end, "the condition did not come true in 10 s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn a_child_that_panics_is_built_anew_and_its_neighbour_lives_on() {
        let main = runtime();
        let supervisor = Supervisor::new(main, Random::seeded(1), Duration::from_secs(1));
        let lives = Arc::new(AtomicU32::new(0));
        let (counted, shutdown) = (Arc::clone(&lives), supervisor.shutdown_signal());
        supervisor.start("panics", move || {
            let life = counted.fetch_add(1, Ordering::Relaxed);
            let mut shutdown = shutdown.clone();
            async move {
                assert!(life >= 2, "life {life}");
                shutdown.requested().await;
                Ok::<_, Infallible>(())
            }
        });
        let signal = supervisor.shutdown_signal();
        supervisor.start("lives", move || {
            let mut signal = signal.clone();
            async move {
                signal.requested().await;
                Ok::<_, Infallible>(())
            }
        });
        main.block_on(until(|| lives.load(Ordering::Relaxed) == 3));
        let status = supervisor.status();
        assert_eq!((status[0].restarts, status[1].restarts), (2, 0));
        assert_eq!(status[0].last_error.as_deref(), Some("panicked: life 1"));
        main.block_on(supervisor.shutdown(Duration::from_secs(5)));
        assert!(supervisor.status().iter().all(|child| child.state == ChildState::Stopped));
    }
}
