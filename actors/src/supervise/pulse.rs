//! What a child shows of its work: how much it holds and when it last got something done. Who acts on it lives in `watchdog`.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::polls::Seen;

/// What all marks count from; an `Instant` has no number of its own.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call.
pub(super) fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A child's pulse; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    /// Whose it is; 0 for nobody's.
    child: u64,
    depth: AtomicU64,
    last_ms: AtomicU64,
}

/// Something that a child holds: a message, a row, a job.
#[derive(Debug)]
pub struct Held(Pulse);

impl Pulse {
    /// The pulse of the child of that number.
    pub(super) fn of(child: u64) -> Self {
        Self(Arc::new(Beats { child, ..Beats::default() }))
    }

    /// Makes `future`, a task of the child's own, seen by the watchdog like the child itself.
    pub fn seen<F: Future>(&self, future: F) -> Seen<F> {
        Seen::new(self.0.child, future)
    }

    /// Tells that something was done.
    pub fn beat(&self) {
        self.0.last_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Takes one thing in; it is held until what is returned is dropped.
    pub fn take(&self) -> Held {
        if self.0.depth.fetch_add(1, Ordering::Relaxed) == 0 {
            // The time without work is not counted against it.
            self.beat();
        }
        Held(self.clone())
    }

    /// How much it holds: its mailbox's depth.
    pub fn depth(&self) -> u64 {
        self.0.depth.load(Ordering::Relaxed)
    }

    /// How long it has had work and got nothing done.
    pub(super) fn stalled_for(&self) -> Duration {
        if self.depth() == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis(now_ms().saturating_sub(self.0.last_ms.load(Ordering::Relaxed)))
    }
}

impl Held {
    /// Lets it go as done; dropping it tells nothing of success.
    pub fn done(self) {
        self.0.beat();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_is_held_can_stall() {
        let pulse = Pulse::default();
        assert_eq!(pulse.stalled_for(), Duration::ZERO);
        let (first, second) = (pulse.take(), pulse.take());
        assert_eq!(pulse.depth(), 2);
        while now_ms() < 5 {}
        pulse.0.last_ms.store(0, Ordering::Relaxed);
        assert!(pulse.stalled_for() >= Duration::from_millis(5));
        first.done();
        assert!(pulse.stalled_for() < Duration::from_millis(5));
        drop(second);
        assert_eq!((pulse.depth(), pulse.stalled_for()), (0, Duration::ZERO));
    }
}
