//! Supervision of actix actors: each life is built by a factory on an arbiter of the supervisor's, its address published, its answers watched.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, Message, dev::ToEnvelope};
use actix_rt::Arbiter;
use tokio::sync::{oneshot, watch};

use super::{
    Pulse, Supervisor,
    child::{End, ended},
    polls::Seen,
};

/// How often an actor is asked for an answer, so that one that is pending for ever is noticed without a caller.
const PING: Duration = Duration::from_secs(1);

/// Asks an actor to answer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ping;

/// A name for the actor's current life.
pub struct ActorRef<A: Actor> {
    address: watch::Receiver<Option<Addr<A>>>,
    pulse: Pulse,
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), pulse: self.pulse.clone() }
    }
}

/// The actor did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Its mailbox is full, or it is between two lives.
    #[error("the actor takes nothing right now")]
    Busy,
    /// It ended before it answered, or took too long.
    #[error("the actor did not answer within {0:?}")]
    NoAnswer(Duration),
}

impl<A: Actor<Context = Context<A>>> ActorRef<A> {
    /// Sends a message and waits for the answer; a full mailbox is waited for within the same limit.
    ///
    /// # Errors
    /// When it cannot be taken, or is not answered within `limit`.
    pub async fn send<M>(&self, message: M, limit: Duration) -> Result<M::Result, SendError>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let address = self.address.borrow().clone().ok_or(SendError::Busy)?;
        if !address.connected() {
            return Err(SendError::Busy);
        }
        let held = self.pulse.take();
        match tokio::time::timeout(limit, address.send(message)).await {
            Ok(Ok(answer)) => {
                held.done();
                Ok(answer)
            }
            Ok(Err(_)) => Err(SendError::Busy),
            Err(_) => Err(SendError::NoAnswer(limit)),
        }
    }
}

impl Supervisor {
    /// Starts an actor on `arbiter` and keeps it alive: `factory` builds each of its lives, on the arbiter's thread.
    pub fn start_actor<A, F>(&self, name: impl Into<String>, arbiter: Arbiter, factory: F) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>> + Handler<Ping>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (sender, address) = watch::channel(None);
        let sender = Arc::new(sender);
        let factory = Arc::new(factory);
        let shutdown = self.shutdown_signal();
        let child = self.adopt(name.into(), self.stall_limit());
        let pulse = child.pulse.clone();
        self.keep_alive(child, move |child| {
            let (told, end) = oneshot::channel();
            let (sender, factory, child, mut shutdown) =
                (Arc::clone(&sender), Arc::clone(&factory), Arc::clone(child), shutdown.clone());
            let spawned = arbiter.spawn_fn(move || {
                // The actor is built here, on its own thread: it need not be `Send`.
                let built = catch_unwind(AssertUnwindSafe(|| {
                    let context = Context::new();
                    let address: Addr<A> = actix::AsyncContext::address(&context);
                    (address, context.into_future(factory()))
                }));
                let Ok((address, life)) = built else {
                    let _unheard = told.send(End::Panicked("its factory panicked".to_owned())).is_err();
                    return;
                };
                sender.send_replace(Some(address.clone()));
                tokio::task::spawn_local(async move {
                    let mut life = tokio::task::spawn_local(Seen::new(child.number, life));
                    child.lives_by(life.abort_handle());
                    let end = tokio::select! {
                        end = &mut life => end.map_or_else(ended, |()| End::Stopped),
                        () = shutdown.requested() => {
                            life.abort();
                            End::Stopped
                        }
                        never = ping(&address, &child.pulse) => match never {},
                    };
                    sender.send_replace(None);
                    // Nobody waits any more when the process is ending.
                    let _unheard = told.send(end).is_err();
                });
            });
            async move {
                if !spawned {
                    return End::Failed("its arbiter has ended".to_owned());
                }
                end.await.unwrap_or_else(|_| End::Failed("its arbiter ended".to_owned()))
            }
        });
        ActorRef { address, pulse }
    }
}

/// Asks again and again; an answer that does not come counts as work without progress.
async fn ping<A>(address: &Addr<A>, pulse: &Pulse) -> std::convert::Infallible
where
    A: Actor<Context = Context<A>> + Handler<Ping>,
{
    loop {
        tokio::time::sleep(PING).await;
        let held = pulse.take();
        if address.send(Ping).await.is_ok() {
            held.done();
        }
    }
}
