//! Supervision of actix actors: each life is built by a factory on an arbiter of the supervisor's, its address published.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use actix::{Actor, Addr, Context, Handler, Message, dev::ToEnvelope};
use actix_rt::Arbiter;
use tokio::sync::{oneshot, watch};

use super::{
    Supervisor,
    child::{End, panic_text},
};

/// A name for the actor's current life.
pub struct ActorRef<A: Actor>(watch::Receiver<Option<Addr<A>>>);

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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
        let address = self.0.borrow().clone().ok_or(SendError::Busy)?;
        if !address.connected() {
            return Err(SendError::Busy);
        }
        match tokio::time::timeout(limit, address.send(message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(SendError::Busy),
            Err(_) => Err(SendError::NoAnswer(limit)),
        }
    }
}

impl Supervisor {
    /// Starts an actor on `arbiter` and keeps it alive: `factory` builds each of its lives, on the arbiter's thread.
    pub fn start_actor<A, F>(&self, name: impl Into<String>, arbiter: Arbiter, factory: F) -> ActorRef<A>
    where
        A: Actor<Context = Context<A>>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        let factory = Arc::new(factory);
        let shutdown = self.shutdown_signal();
        self.keep_alive(name.into(), move || {
            let (told, ended) = oneshot::channel();
            let (sender, factory, mut shutdown) =
                (Arc::clone(&sender), Arc::clone(&factory), shutdown.clone());
            let spawned = arbiter.spawn_fn(move || {
                // The actor is built here, on its own thread: it need not be `Send`.
                let built = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    let context = Context::new();
                    (actix::AsyncContext::address(&context), context.into_future(factory()))
                }));
                let Ok((address, life)) = built else {
                    let _unheard = told.send(End::Panicked("its factory panicked".to_owned())).is_err();
                    return;
                };
                sender.send_replace(Some(address));
                tokio::task::spawn_local(async move {
                    let mut life = tokio::task::spawn_local(life);
                    let end = tokio::select! {
                        end = &mut life => match end {
                            Ok(()) => End::Stopped,
                            Err(error) => End::Panicked(panic_text(error)),
                        },
                        () = shutdown.requested() => {
                            life.abort();
                            End::Stopped
                        }
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
                ended.await.unwrap_or_else(|_| End::Failed("its arbiter ended".to_owned()))
            }
        });
        ActorRef(receiver)
    }
}
