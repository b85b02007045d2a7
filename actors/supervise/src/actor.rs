//! What an actor is: its state, the messages that it handles, and what it arms when a life starts. How it is reached lives in `address`, what
//! runs it in `life`.

use std::{error::Error, time::Duration};

use actix::{Addr, Message};
use futures_util::FutureExt;
use tokio::{
    runtime::Handle as Runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    Progress, SendError, Shutdown,
    life::{Job, Reply, Running},
    mailbox::Admission,
    polls,
    record::{End, chain, panic_text},
    supervisor::{Live, ThreadList},
};

/// The state of an actor. A factory builds it for each life, on the thread of the actors; it need not be `Send`.
pub trait Actor: Sized + 'static {
    /// Arms what a life needs: timers, a subscription, threads.
    ///
    /// # Errors
    /// What cannot be had; the life ends with it, and the next one is started after a pause.
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let _nothing_to_arm = life;
        Ok(())
    }
}

/// How an actor handles the messages of one type.
pub trait Handle<M: Message>: Actor {
    /// Takes what it needs from the state, at once and without waiting, and gives the work on the message. A panic in here may leave the
    /// state half-changed and ends the life; a panic in the future that it gives is the failure of this message only.
    fn handle(&mut self, message: M) -> impl Future<Output = M::Result> + 'static;
}

/// The message of a timer. An error ends the life, and the next one is started after a pause.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct Tick;

/// Why a life ended: an error of any type, told with its causes.
#[derive(Debug)]
pub struct ActorError(pub(super) String);

impl<E: Error> From<E> for ActorError {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

/// One life of an actor, as the actor sees it. Whatever is armed here ends with the life.
pub struct Life<A: Actor> {
    pub(super) name: String,
    pub(super) address: Addr<Running<A>>,
    pub(super) admission: Admission,
    pub(super) shutdown: Shutdown,
    pub(super) main: Runtime,
    /// Ends the life.
    pub(super) ends: mpsc::Sender<End>,
    /// Its timers, and the messages at work.
    pub(super) tasks: JoinSet<()>,
    pub(super) threads: ThreadList,
    pub(super) live: Live,
    /// Told when a subscription is armed.
    pub(super) takes_in: Box<dyn Fn()>,
}

impl<A: Actor> Life<A> {
    /// What the actor tells of work that no message brought.
    pub fn progress(&self) -> Progress {
        self.admission.progress().clone()
    }

    /// When to end.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs a subscription on the main runtime, where the clients live. The life ends with it, and with its error; it hears of the
    /// shutdown by itself.
    pub fn run<E, F>(&mut self, subscription: F)
    where
        E: Error + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        (self.takes_in)();
        let (ends, live) = (self.ends.clone(), self.live.clone());
        let run = std::panic::AssertUnwindSafe(subscription).catch_unwind();
        let run = async move {
            let _live = live;
            let end = match run.await {
                Ok(Ok(())) => End::Stopped,
                Ok(Err(error)) => End::Failed(chain(&error)),
                Err(panic) => End::Panicked(panic_text(&*panic)),
            };
            // A life ends once.
            let _ended = ends.try_send(end).is_err();
        };
        let watched = self.progress().watch(run);
        self.tasks.spawn_on(watched, &self.main);
    }

    /// Sends a [`Tick`] after `first` and then `period` after each one is handled, until the shutdown. One that finds the mailbox full
    /// is left out.
    pub fn every(&mut self, first: Duration, period: Duration)
    where
        A: Handle<Tick>,
    {
        let (admission, address) = (self.admission.clone(), self.address.clone());
        let (ends, mut shutdown) = (self.ends.clone(), self.shutdown.clone());
        self.tasks.spawn_local(async move {
            let mut pause = first;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.requested() => return,
                }
                pause = period;
                let place = match admission.place().await {
                    Ok(place) => place,
                    Err(SendError::Full) => continue,
                    Err(_) => return,
                };
                let (job, answered) = Job::new(Tick, place, admission.progress().begin());
                #[expect(clippy::disallowed_methods, reason = "the message has its place in the mailbox")]
                let sent = address.try_send(job);
                let end = match answered.await {
                    Ok(Reply::Done(Err(error))) => End::Failed(error.0),
                    Ok(Reply::Failed(text)) => End::Panicked(text),
                    _ if sent.is_err() => return,
                    _ => continue,
                };
                // A life ends once.
                let _ended = ends.try_send(end).is_err();
            }
        });
    }

    /// Starts a thread of the actor's own, whose blocking work the watchdog sees when `run` does it by way of [`ThreadMark::run`]. The
    /// supervisor joins it.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn spawn_thread(
        &self,
        number: usize,
        run: impl FnOnce(ThreadMark) + Send + 'static,
    ) -> std::io::Result<()> {
        let (live, mark) = (self.live.clone(), ThreadMark(self.admission.progress().actor()));
        let name = format!("{}-{number}", self.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _live = live;
            run(mark);
        })?;
        self.threads.add(thread);
        Ok(())
    }
}

/// Marks blocking work as the actor's.
#[derive(Clone, Copy)]
pub(super) struct ThreadMark(u64);

impl ThreadMark {
    /// Runs blocking work on this thread, so that it is seen when it never ends.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        polls::run(self.0, work)
    }
}

pub(super) type Answer<M> = oneshot::Receiver<Reply<M>>;
