//! Pools of threads among the children: who holds how much, whose job panicked, whose thread is blocked. The threads are their owner's.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tracing::error;

use super::{
    Supervisor,
    child::{Child, panic_text},
    polls,
    pulse::Held,
};

/// A pool's place among the children.
#[derive(Clone)]
pub struct Threads(Arc<Child>);

impl Supervisor {
    /// Gives a pool of threads its place among the children. It has no life of its own that could end: a job ends, and its thread goes on.
    pub fn threads(&self, name: impl Into<String>) -> Threads {
        Threads(self.adopt(name.into(), Duration::MAX))
    }
}

impl Threads {
    /// Counts a job that waits for a thread or has one.
    pub fn take(&self) -> Held {
        self.0.pulse.take()
    }

    /// Runs a job on this thread; `None` when it panicked, which is logged and counted.
    pub fn run<T>(&self, job: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| polls::run(self.0.number, job))) {
            Ok(done) => Some(done),
            Err(panic) => {
                let text = format!("panicked: {}", panic_text(&*panic));
                error!(child = self.0.name, error = text, "a job failed, its thread goes on");
                self.0.failed(text);
                None
            }
        }
    }
}
