//! Which thread is inside which actor's code, and since when. Blocked code cannot be cancelled: seeing it is all that can be done.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use super::progress::now_ms;

/// Threads that have ever run an actor's code, while they live.
static THREADS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static SLOT: Arc<Slot> = {
        let slot = Arc::new(Slot::default());
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&slot));
        slot
    };
}

/// What one thread is at. A actor's number is 0 for none.
#[derive(Debug, Default)]
struct Slot {
    actor: AtomicU64,
    since_ms: AtomicU64,
}

/// Marks this thread as being inside an actor's code, until dropped.
struct Inside {
    actor: u64,
    since_ms: u64,
}

impl Inside {
    fn enter(actor: u64) -> Self {
        SLOT.with(|slot| {
            let since_ms = slot.since_ms.swap(now_ms(), Ordering::Relaxed);
            Self { actor: slot.actor.swap(actor, Ordering::Relaxed), since_ms }
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // What it was inside of before goes on with its own time.
        SLOT.with(|slot| {
            slot.since_ms.store(self.since_ms, Ordering::Relaxed);
            slot.actor.store(self.actor, Ordering::Relaxed);
        });
    }
}

/// Runs blocking `work` of an actor on this thread, so that it is seen when it never ends.
pub(super) fn run<T>(actor: u64, work: impl FnOnce() -> T) -> T {
    let _inside = Inside::enter(actor);
    work()
}

/// A future of an actor whose polls are seen.
pub struct Watched<F> {
    actor: u64,
    future: Pin<Box<F>>,
}

impl<F> Watched<F> {
    pub(super) fn new(actor: u64, future: F) -> Self {
        Self { actor, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _inside = Inside::enter(self.actor);
        self.future.as_mut().poll(context)
    }
}

/// The actors whose code has held a thread for longer than `limit`, each with how long.
pub(super) fn blocked(limit: Duration) -> Vec<(u64, Duration)> {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads
        .iter()
        .filter_map(Weak::upgrade)
        .filter_map(|slot| {
            let actor = slot.actor.load(Ordering::Relaxed);
            let since = Duration::from_millis(now_ms().saturating_sub(slot.since_ms.load(Ordering::Relaxed)));
            (actor != 0 && since > limit).then_some((actor, since))
        })
        .collect()
}
