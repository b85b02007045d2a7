//! An actor whose messages are blocking work: it owns as many threads as it has messages at work, each with a state of its own.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::Message;
use tokio::sync::oneshot;

use super::{
    ActorRef, Supervisor,
    actor::{Actor, ActorError, Handle, Life, ThreadMark},
    mailbox::Mailbox,
};

/// The state of one thread. A factory builds it on its thread, and anew after a panic.
pub trait Worker: 'static {
    /// After how long without work `rest` is called, once; never without it.
    const REST_AFTER: Option<Duration> = None;

    /// Gives back what is only worth having under load, such as memory.
    fn rest(&mut self) {}
}

/// How a thread works on the messages of one type. A panic is the failure of that message only.
pub trait Work<M: Message>: Worker {
    /// Does the work, which may block for as long as `internal.blocked_limit`.
    fn work(&mut self, message: M) -> M::Result;
}

/// The actor that owns the threads.
pub struct Threads<W: Worker> {
    count: usize,
    factory: Arc<dyn Fn() -> W + Send + Sync>,
    queue: Arc<Queue<W>>,
}

type Task<W> = Box<dyn FnOnce(&mut W) -> Result<(), Panicked> + Send>;

/// The work panicked, which its sender was told; the state of the thread is not to be trusted.
struct Panicked;

/// What was admitted and has no thread yet. There is a thread for each message at work, so this holds nothing for longer than a thread takes
/// to wake up: what waits, waits in the mailbox.
struct Queue<W> {
    state: Mutex<Waiting<W>>,
    changed: Condvar,
}

struct Waiting<W> {
    tasks: VecDeque<Task<W>>,
    is_closed: bool,
}

impl Supervisor {
    /// Starts an actor with `mailbox.concurrency` threads; `factory` builds the state of each.
    pub fn start_threads<W, F>(
        &self,
        name: impl Into<String>,
        mailbox: Mailbox,
        factory: F,
    ) -> ActorRef<Threads<W>>
    where
        W: Worker,
        F: Fn() -> W + Send + Sync + 'static,
    {
        let factory: Arc<dyn Fn() -> W + Send + Sync> = Arc::new(factory);
        // A thread cannot be cancelled: work that takes too long is the blocked limit's matter.
        self.start_actor_within(name, mailbox, Duration::MAX, move || Threads {
            count: mailbox.concurrency.max(1),
            factory: Arc::clone(&factory),
            queue: Arc::new(Queue {
                state: Mutex::new(Waiting { tasks: VecDeque::new(), is_closed: false }),
                changed: Condvar::new(),
            }),
        })
    }
}

impl<W: Worker> Actor for Threads<W> {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        for number in 0..self.count {
            let (queue, factory) = (Arc::clone(&self.queue), Arc::clone(&self.factory));
            life.spawn_thread(number, move |mark| queue.work(mark, &*factory))?;
        }
        Ok(())
    }
}

impl<W: Worker> Drop for Threads<W> {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl<W, M> Handle<M> for Threads<W>
where
    W: Work<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, message: M) -> impl Future<Output = M::Result> + 'static {
        let (answer, answered) = oneshot::channel();
        let task: Task<W> = Box::new(move |worker| {
            let done = catch_unwind(AssertUnwindSafe(|| worker.work(message)));
            let outcome = if done.is_ok() { Ok(()) } else { Err(Panicked) };
            // The life may have ended meanwhile.
            let _gone = answer.send(done).is_err();
            outcome
        });
        self.queue.lock().tasks.push_back(task);
        self.queue.changed.notify_one();
        async move {
            match answered.await {
                Ok(Ok(answer)) => answer,
                // The failure of this message, as if it had happened here.
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => resume_unwind(Box::new("its thread could not be built")),
            }
        }
    }
}

impl<W: Worker> Queue<W> {
    fn lock(&self) -> MutexGuard<'_, Waiting<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread, until the life ends.
    fn work(&self, mark: ThreadMark, factory: &(dyn Fn() -> W + Send + Sync)) {
        let mut worker = None;
        while let Some(task) = self.next(worker.as_mut()) {
            let outcome =
                mark.run(|| catch_unwind(AssertUnwindSafe(|| task(worker.get_or_insert_with(factory)))));
            // After a panic, in the factory as well, the state is built anew for the next message.
            if !matches!(outcome, Ok(Ok(()))) {
                worker = None;
            }
        }
    }

    fn next(&self, mut worker: Option<&mut W>) -> Option<Task<W>> {
        let mut state = self.lock();
        let mut rest_after = W::REST_AFTER.filter(|_| worker.is_some());
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.is_closed {
                return None;
            }
            let Some(limit) = rest_after else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (back, waited) =
                self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
            state = back;
            if waited.timed_out() && state.tasks.is_empty() {
                drop(state);
                if let Some(worker) = &mut worker {
                    worker.rest();
                }
                rest_after = None;
                state = self.lock();
            }
        }
    }
}
