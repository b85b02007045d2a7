//! What a handler is and how it answers, and the actor whose mailbox is before it. How deliveries reach it lives in `consumer` and `handling`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use orrery_supervise::{Actor, Mailbox};

use super::Delivery;

/// How long a message is held back that comes back uncounted: its dependency was away, we shut down, or another is at work on it.
pub const PAUSE: Duration = Duration::from_secs(2);

/// A handler's name, its limits and what it subscribes to.
#[derive(Debug, Clone)]
pub struct HandlerSpec {
    /// Its name, which is its queue's: `maily.email`.
    pub name: &'static str,
    /// How many messages it works on at once, and how many more may wait for that: together the prefetch of its queue.
    pub mailbox: Mailbox,
    /// How long a failed try waits before the second.
    pub retry_delay: Duration,
    /// How long one try may take.
    pub time_limit: Duration,
    /// The event types it subscribes to; none for a handler of commands.
    pub bindings: Vec<&'static str>,
    /// What makes a message that is delivered twice have one effect.
    pub once: Once,
}

/// What makes a message that is delivered twice have one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// The inbox's claims.
    Inbox,
    /// The effect itself, which changes nothing the second time: no claims, no database.
    ByConstruction,
}

impl HandlerSpec {
    /// How many messages the broker sends ahead: what the mailbox takes, so that a full mailbox takes nothing more from the queue.
    pub fn prefetch(&self) -> u16 {
        u16::try_from(self.mailbox.takes()).unwrap_or(u16::MAX)
    }

    /// The delays that it has a retry queue for: its own, and the short one of what is not counted.
    pub fn delays(&self) -> Vec<Duration> {
        let mut delays = vec![self.retry_delay, PAUSE];
        delays.dedup();
        delays
    }
}

/// Why a try failed: a reason and its causes, outermost first. No address, name or token may stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In a few words.
    pub reason: String,
    /// What led to it.
    pub causes: Vec<String>,
}

impl Failure {
    /// A reason without a cause.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), causes: Vec::new() }
    }

    /// An error with its chain of sources.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { reason: error.to_string(), causes }
    }
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The effect happened.
    Done,
    /// This try failed; one more may not.
    Retry(Failure),
    /// This input will never work.
    Reject(Failure),
    /// A dependency is away: nothing is counted, and nothing more is taken until `probe` finds it back.
    Wait(Failure),
    /// This one message has to wait, and no other: nothing is counted, and it comes again after a pause.
    Later(Failure),
}

/// The logic behind a queue.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Its name, limits and subscriptions.
    fn spec(&self) -> HandlerSpec;

    /// Brings about the effect of one message, which may have been tried before.
    async fn handle(&self, delivery: &Delivery) -> Outcome;

    /// Whether what it depends on is back after a `Wait`.
    ///
    /// # Errors
    /// What is still away.
    async fn probe(&self) -> Result<(), Failure>;

    /// Takes leave of what it depends on, after its last message.
    async fn close(&self) {}
}

/// The actor of a handler, under the handler's name. Its consumer takes a place in its mailbox for each delivery, and keeps the delivery in a
/// task of the main runtime: a way through the thread of the actors would cost a small message more than its work.
pub struct HandlerActor {
    /// The logic; it keeps no state that a panic could break.
    pub handler: Arc<dyn Handler>,
}

impl Actor for HandlerActor {}
