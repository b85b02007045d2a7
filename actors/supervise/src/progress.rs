//! The progress of an actor: how much it has at work and when it last got something done. Who acts on it lives in `watchdog`.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::polls::Watched;

/// What all times count from; an `Instant` has no number of its own.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call.
pub(super) fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The progress of one actor; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// Whose it is; 0 for nobody's.
    actor: u64,
    at_work: AtomicU64,
    last_ms: AtomicU64,
}

/// Something that an actor has at work: a message, a row, a job. It is at work until this is dropped.
#[derive(Debug)]
pub struct WorkItem(Progress);

impl Progress {
    /// The progress of the actor of that number.
    pub(super) fn of(actor: u64) -> Self {
        Self(Arc::new(Counters { actor, ..Counters::default() }))
    }

    /// The number of the actor.
    pub(super) fn actor(&self) -> u64 {
        self.0.actor
    }

    /// Makes `future`, a task of the actor's own, seen by the watchdog like the actor itself.
    pub fn watch<F: Future>(&self, future: F) -> Watched<F> {
        Watched::new(self.0.actor, future)
    }

    /// Tells that something was done.
    pub fn advance(&self) {
        self.0.last_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Begins one piece of work.
    pub fn begin(&self) -> WorkItem {
        if self.0.at_work.fetch_add(1, Ordering::Relaxed) == 0 {
            // The time without work is not counted against it.
            self.advance();
        }
        WorkItem(self.clone())
    }

    /// How much it has at work.
    pub fn at_work(&self) -> u64 {
        self.0.at_work.load(Ordering::Relaxed)
    }

    /// How long it has had work and got nothing done.
    pub(super) fn stalled_for(&self) -> Duration {
        if self.at_work() == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(now_ms().saturating_sub(self.0.last_ms.load(Ordering::Relaxed)))
    }
}

impl WorkItem {
    /// Ends it as done; dropping it tells nothing of success.
    pub fn done(self) {
        self.0.advance();
    }
}

impl Drop for WorkItem {
    fn drop(&mut self) {
        self.0.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_was_begun_can_stall() {
        let progress = Progress::default();
        assert_eq!(progress.stalled_for(), Duration::ZERO);
        let (first, second) = (progress.begin(), progress.begin());
        assert_eq!(progress.at_work(), 2);
        while now_ms() < 5 {}
        progress.0.last_ms.store(0, Ordering::Relaxed);
        assert!(progress.stalled_for() >= Duration::from_millis(5));
        first.done();
        assert!(progress.stalled_for() < Duration::from_millis(5));
        drop(second);
        assert_eq!((progress.at_work(), progress.stalled_for()), (0, Duration::ZERO));
    }
}
