//! The mailbox of an actor: who may wait, who is at work, who is refused, and the figures of it. How a message reaches the actor lives in `address`.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tracing::error;

use super::{
    SendError,
    progress::{Progress, WorkItem},
    record::panic_text,
};

/// How much an actor takes: `capacity` messages may wait while `concurrency` are at work; one more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox {
    /// How many messages may wait.
    pub capacity: usize,
    /// How many messages are at work at once, at least 1.
    pub concurrency: usize,
}

impl Mailbox {
    /// The mailbox of an actor that gives itself its work, such as a subscription or a timer, at most so much at once.
    pub const fn own_work(concurrency: usize) -> Self {
        Self { capacity: 0, concurrency }
    }

    /// How many messages the actor takes in all.
    pub fn takes(self) -> usize {
        self.capacity.saturating_add(self.concurrency)
    }
}

/// The entrance of one actor's mailbox; clones are the same one. The queue of its fair semaphore is the mailbox.
#[derive(Clone)]
pub struct Admission(Arc<Gate>);

struct Gate {
    name: String,
    mailbox: Mailbox,
    places: Arc<Semaphore>,
    /// Messages that wait or are at work.
    admitted: AtomicUsize,
    refused: AtomicU64,
    /// Messages whose work panicked.
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// Told when no message waits or is at work.
    idle: Notify,
    progress: Progress,
}

/// A place among those at work; dropped, it goes to the message that has waited longest.
pub(super) struct Place {
    // Dropped first: who is let in because of it finds the place free.
    _admitted: Counted,
    _permit: OwnedSemaphorePermit,
}

struct Counted(Admission);

impl Drop for Counted {
    fn drop(&mut self) {
        let gate = &self.0.0;
        if gate.admitted.fetch_sub(1, Ordering::AcqRel) == 1 {
            gate.idle.notify_waiters();
        }
    }
}

/// A message that is at work in its sender's own task; over when dropped.
pub struct Admitted {
    admission: Admission,
    item: WorkItem,
    _place: Place,
}

impl Admission {
    /// The entrance of an actor of that name. A supervisor makes it for its actors; a benchmark makes its own.
    pub fn new(name: impl Into<String>, mailbox: Mailbox) -> Self {
        Self::with(name.into(), mailbox, Progress::default())
    }

    pub(super) fn with(name: String, mailbox: Mailbox, progress: Progress) -> Self {
        let concurrency = mailbox.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let mailbox = Mailbox { concurrency, ..mailbox };
        Self(Arc::new(Gate {
            name,
            mailbox,
            places: Arc::new(Semaphore::new(concurrency)),
            admitted: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_error: Mutex::new(None),
            idle: Notify::new(),
            progress,
        }))
    }

    /// Waits for a place and begins work that stays in the caller's task: the deliveries of a queue, whose way through another thread would
    /// cost more than their work. A caller that goes away while it waits leaves the queue.
    ///
    /// # Errors
    /// [`SendError::Full`] at once when more wait than may, [`SendError::Closed`] when the actor takes nothing more.
    pub async fn admit(&self) -> Result<Admitted, SendError> {
        let place = self.place().await?;
        Ok(Admitted { admission: self.clone(), item: self.0.progress.begin(), _place: place })
    }

    pub(super) async fn place(&self) -> Result<Place, SendError> {
        let gate = &self.0;
        if gate.places.is_closed() {
            return Err(SendError::Closed);
        }
        let room = |admitted: usize| (admitted < gate.mailbox.takes()).then_some(admitted + 1);
        if gate.admitted.fetch_update(Ordering::AcqRel, Ordering::Relaxed, room).is_err() {
            gate.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::Full);
        }
        let admitted = Counted(self.clone());
        let permit = match Arc::clone(&gate.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(SendError::Closed),
            Err(TryAcquireError::NoPermits) => {
                Arc::clone(&gate.places).acquire_owned().await.map_err(|_| SendError::Closed)?
            }
        };
        Ok(Place { _admitted: admitted, _permit: permit })
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    /// Takes nothing more; who waits is refused, what is at work goes on.
    pub(super) fn close(&self) {
        self.0.places.close();
    }

    /// Returns when no message waits or is at work.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.0.idle.notified());
            idle.as_mut().enable();
            if self.0.admitted.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// The work on one message panicked: that is counted, logged and shown, and the actor lives on.
    pub(super) fn failed(&self, text: &str) {
        error!(actor = self.0.name, error = text, "the work on a message failed, the actor goes on");
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        self.set_error(text.to_owned());
    }

    pub(super) fn set_error(&self, text: String) {
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(super) fn figures(&self) -> Figures {
        let gate = &self.0;
        let at_work = gate.progress.at_work();
        let admitted = u64::try_from(gate.admitted.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        Figures {
            waiting: admitted.saturating_sub(at_work),
            at_work,
            mailbox: gate.mailbox,
            refused: gate.refused.load(Ordering::Relaxed),
            failures: gate.failures.load(Ordering::Relaxed),
            last_error: gate.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// What the mailbox shows.
pub(super) struct Figures {
    pub waiting: u64,
    pub at_work: u64,
    pub mailbox: Mailbox,
    pub refused: u64,
    pub failures: u64,
    pub last_error: Option<String>,
}

impl Admitted {
    /// Runs the work on the message in this task. Its panic is the failure of this message only.
    ///
    /// # Errors
    /// [`SendError::Failed`] when it panicked.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, SendError> {
        AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
            self.admission.failed(&format!("panicked: {}", panic_text(&*panic)));
            SendError::Failed
        })
    }

    /// The work is over and counts as progress; dropping it tells nothing of success.
    pub fn done(self) {
        self.item.done();
    }
}
