//! How an actor is reached: admission to its mailbox, the address of its present life, the answer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use actix::{Addr, Message};
use tokio::sync::watch;

use super::{
    actor::{Actor, Handle},
    life::{Job, Reply, Running},
    mailbox::Admission,
};

/// Where an actor's present life is.
pub(super) enum Address<A: Actor> {
    /// Between two lives.
    Between,
    /// Alive.
    Alive(Addr<Running<A>>),
    /// There will be no other life.
    Over,
}

/// A message was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// As many messages wait as may: try again later.
    #[error("the mailbox is full")]
    Full,
    /// It takes nothing more, since the process ends.
    #[error("the actor takes nothing more")]
    Closed,
    /// The message waited so long and was taken back: it has no effect.
    #[error("the message waited for {0:?} and was taken back")]
    Waited(Duration),
    /// The message is at work and not answered: its effect may still happen.
    #[error("the actor did not answer within {0:?}")]
    NoAnswer(Duration),
    /// The work on the message panicked.
    #[error("the work on the message failed")]
    Failed,
    /// The actor's life ended while the message was at work.
    #[error("the actor ended before it answered")]
    Ended,
}

/// A name for an actor over all of its lives.
pub struct ActorRef<A: Actor> {
    pub(super) address: watch::Receiver<Address<A>>,
    pub(super) admission: Admission,
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), admission: self.admission.clone() }
    }
}

impl<A: Actor> ActorRef<A> {
    /// Sends a message and waits for the answer, `limit` at most. While it waits for its place it can be taken back: a caller that goes
    /// away, or whose limit is over, leaves the queue, and the message has no effect. A message that was not begun outlives a life.
    ///
    /// # Errors
    /// [`SendError::Full`] at once when as many wait as may; the others as they say.
    pub async fn send<M>(&self, message: M, limit: Duration) -> Result<M::Result, SendError>
    where
        A: Handle<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let is_sent = AtomicBool::new(false);
        match tokio::time::timeout(limit, self.deliver(message, &is_sent)).await {
            Ok(answer) => answer,
            Err(_) if is_sent.load(Ordering::Relaxed) => Err(SendError::NoAnswer(limit)),
            Err(_) => Err(SendError::Waited(limit)),
        }
    }

    /// The entrance of its mailbox, for work that stays in the caller's task.
    pub fn admission(&self) -> Admission {
        self.admission.clone()
    }

    async fn deliver<M>(&self, mut message: M, is_sent: &AtomicBool) -> Result<M::Result, SendError>
    where
        A: Handle<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let mut place = self.admission.place().await?;
        let mut lives = self.address.clone();
        loop {
            let address = alive(&mut lives).await?;
            let (job, answered) = Job::new(message, place, self.admission.progress().begin());
            is_sent.store(true, Ordering::Relaxed);
            // What cannot be sent comes back as what was not begun does.
            #[expect(clippy::disallowed_methods, reason = "the message has its place in the mailbox")]
            let _comes_back = address.try_send(job).is_err();
            match answered.await {
                Ok(Reply::Done(answer)) => return Ok(answer),
                Ok(Reply::Failed(_)) => return Err(SendError::Failed),
                Ok(Reply::Back(back)) => (message, place) = *back,
                Err(_) => return Err(SendError::Ended),
            }
            is_sent.store(false, Ordering::Relaxed);
        }
    }
}

/// The address of the present life, or of the next one.
async fn alive<A: Actor>(lives: &mut watch::Receiver<Address<A>>) -> Result<Addr<Running<A>>, SendError> {
    let there = lives.wait_for(|address| match address {
        Address::Between => false,
        Address::Alive(address) => address.connected(),
        Address::Over => true,
    });
    match &*there.await.map_err(|_| SendError::Closed)? {
        Address::Alive(address) => Ok(address.clone()),
        Address::Between | Address::Over => Err(SendError::Closed),
    }
}
