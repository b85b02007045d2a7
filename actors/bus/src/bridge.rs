//! The bridge actor: moves what arrives in a queue of foreign making to where our handlers read. It decides nothing and has no effect.
//! What a message becomes is a service's plain function; its queue is declared by `topology`, but for a legacy one, which is its publishers'.
//!
//! Events leave by the outbox, and this is no exception to it: the outbox is there so that a change in PostgreSQL and its message
//! happen together, and here nothing changes in PostgreSQL. A message lies in one queue until it is confirmed in the next, as on the way
//! to a retry queue. Between confirm and acknowledgement a crash doubles it; so its id must be made of the message alone, and the inbox
//! of the handler tells the double.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use cloudevents::Event;
use cloudevents_amqp::Encoded;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection,
    message::Delivery as Raw,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions,
    },
    protocol::AMQPSoftError,
    types::FieldTable,
};
use orrery_schemas::topology;
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown};
use tracing::{debug, warn};

use super::{
    Bus, BusError, Dependencies, MAX_MESSAGE_BYTES, Patience,
    connection::{close, soft},
    envelope::{self, MAX_ROOMY_BYTES, fitting, header_bytes},
    handler::{Failure, PAUSE},
};

/// Messages that are on their way at once.
pub(super) const PREFETCH: u16 = 32;
/// A bridge's name, where it reads and where it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name.
    pub name: &'static str,
    /// The queue that it empties.
    pub queue: &'static str,
    /// How that queue is declared.
    pub queue_kind: ForeignQueue,
    /// The exchange that it publishes to, empty for the default one.
    pub exchange: &'static str,
    /// The key that it publishes with.
    pub routing_key: &'static str,
    /// Among whose dead letters lies what cannot be turned.
    pub handler: &'static str,
}

/// How a bridge's queue is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignQueue {
    /// Classic, durable, without arguments, as its publishers declare it themselves.
    Legacy,
    /// A quorum queue, bound by this key to the exchange of third parties.
    Ingress(&'static str),
}

/// What a message becomes.
#[derive(Debug, Default)]
pub struct Translated {
    /// The events that are published in its place; their ids are the same each time.
    pub events: Vec<Event>,
    /// How many parts of it concern nobody.
    pub skipped: usize,
    /// Why it, or a part of it, cannot be turned: then it is a dead letter as well, as it came.
    pub failure: Option<Failure>,
}

/// Says what a message becomes.
pub type Translate = dyn Fn(&BasicProperties, &[u8]) -> Translated + Send + Sync;

/// Moves.
#[derive(Clone)]
pub struct Bridge {
    /// What it stands on.
    pub dependencies: Dependencies,
    /// Where it reads and writes.
    pub spec: BridgeSpec,
    /// What messages become.
    pub turn: Arc<Translate>,
    /// What it shows of its work.
    pub progress: Progress,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Actor for Bridge {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let bridge = Self { progress: life.progress(), shutdown: life.shutdown(), ..self.clone() };
        life.run(bridge.run());
        Ok(())
    }
}

impl Bridge {
    /// Moves until shutdown.
    ///
    /// # Errors
    /// When the broker goes away or does not confirm: what is not confirmed stays in its queue, and the supervisor builds a new bridge.
    pub async fn run(self) -> Result<(), BusError> {
        let connection = self.dependencies.bus.connect_with_large_frames(self.spec.name).await?;
        let moved = self.move_from(&connection).await;
        // In whatever way it ended: what is given up is closed.
        close(&connection).await;
        moved
    }

    async fn move_from(&self, connection: &Connection) -> Result<(), BusError> {
        let (mut shutdown, patience) = (self.shutdown.clone(), Patience::of(&self.progress, &self.shutdown));
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let (tag, options) = ("".into(), BasicConsumeOptions::default());
            let consumer =
                channel.basic_consume(self.spec.queue.into(), tag, options, FieldTable::default()).await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = self.dependencies.bus.within(open).await?;
        let tag = consumer.tag();
        let mut moves =
            pin!(consumer.map(|raw| self.move_one(&patience, raw)).buffer_unordered(usize::from(PREFETCH)));
        loop {
            tokio::select! {
                moved = moves.next() => {
                    moved.ok_or_else(|| BusError::Cancelled(self.spec.queue.to_owned()))??;
                }
                () = shutdown.requested() => break,
            }
        }
        self.dependencies.bus.within(channel.basic_cancel(tag, BasicCancelOptions::default())).await?;
        let rest = async {
            while let Some(moved) = moves.next().await {
                moved?;
            }
            Ok::<_, BusError>(())
        };
        // What takes longer than the grace goes back to its queue with the connection.
        if let Ok(moved) = tokio::time::timeout(shutdown.grace(), rest).await {
            moved?;
        }
        Ok(())
    }

    async fn move_one(&self, patience: &Patience, raw: lapin::Result<Raw>) -> Result<(), BusError> {
        let raw = raw?;
        let held = self.progress.begin();
        let Moved { messages, skipped, failure } = self.turned(&raw);
        let BridgeSpec { name, queue, exchange, routing_key, handler, .. } = self.spec;
        for message in &messages {
            let properties = message.properties.clone();
            self.send_on(patience, (exchange, routing_key), properties, &message.body).await?;
        }
        if let Some(failure) = failure {
            warn!(bridge = name, reason = failure.reason, causes = ?failure.causes, "cannot be turned, is a dead letter");
            let letter = self.dependencies.random.uuid_v7(&self.dependencies.clock);
            let now = self.dependencies.clock.now();
            let properties =
                envelope::dead(&fitting(&raw.properties, MAX_ROOMY_BYTES), 1, queue, &failure, now, letter);
            self.send_on(patience, ("", &topology::dead(handler)), properties, &raw.data).await?;
        }
        raw.acker.ack(BasicAckOptions::default()).await?;
        held.done();
        debug!(bridge = name, moved = messages.len(), skipped, "moved");
        Ok(())
    }

    /// Publishes; that a queue of ours is missing is no fault of the message, which is held until the queue is there.
    async fn send_on(
        &self,
        patience: &Patience,
        (exchange, key): (&str, &str),
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        loop {
            match self.dependencies.bus.publish(patience, exchange, key, properties.clone(), body).await {
                Err(BusError::Unroutable(_)) if exchange.is_empty() && !self.shutdown.is_requested() => {
                    warn!(
                        bridge = self.spec.name,
                        queue = key,
                        "is missing: the message is held until 'orrery migrate' was run"
                    );
                    self.dependencies.bus.standing().is_missing(key);
                    self.progress.advance();
                    tokio::time::sleep(PAUSE).await;
                }
                answered => return answered,
            }
        }
    }

    fn turned(&self, raw: &Raw) -> Moved {
        if raw.data.len() > MAX_MESSAGE_BYTES {
            let failure = Failure::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes"));
            return Moved { failure: Some(failure), ..Moved::default() };
        }
        let turn = AssertUnwindSafe(|| (self.turn)(&raw.properties, &raw.data));
        // A message that makes it panic would come again and again.
        let mut turned = std::panic::catch_unwind(turn).unwrap_or_else(|_| Translated {
            failure: Some(Failure::new("the bridge panicked")),
            ..Translated::default()
        });
        let mut moved = Moved { skipped: turned.skipped, failure: turned.failure, ..Moved::default() };
        let renewed = envelope::text(&raw.properties, envelope::EXPIRY);
        for event in &mut turned.events {
            if let Some(expiry) = &renewed {
                event.set_extension("expirytime", expiry.as_str());
            }
            match encode(&self.dependencies.bus, event) {
                Ok(message) => moved.messages.push(message),
                Err(failure) => moved.failure = Some(failure),
            }
        }
        moved
    }
}

/// What is published in a message's place.
#[derive(Default)]
struct Moved {
    messages: Vec<Encoded>,
    skipped: usize,
    failure: Option<Failure>,
}

fn encode(bus: &Bus, event: &Event) -> Result<Encoded, Failure> {
    let message = bus.encode(event).map_err(|error| Failure::of(&error))?;
    if message.properties.headers().as_ref().is_some_and(|headers| header_bytes(headers) > MAX_ROOMY_BYTES) {
        return Err(Failure::new(format!("the event's attributes take more than {MAX_ROOMY_BYTES} bytes")));
    }
    Ok(message)
}

/// Declares a legacy queue. False when it stands with other arguments, which does no harm: it is only read.
///
/// # Errors
/// When the broker is away or refuses for another reason.
pub async fn declare_legacy(bus: &Bus, queue: &str) -> Result<bool, BusError> {
    // A refusal costs the channel: the connection is this queue's.
    let connection = bus.connect_aside(queue).await?;
    let declare = async {
        let channel = connection.create_channel().await?;
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default()).await
    };
    let declared = bus.within(declare).await;
    close(&connection).await;
    match declared {
        Ok(_) => Ok(true),
        Err(BusError::Amqp(error)) if soft(&error) == Some(AMQPSoftError::PRECONDITIONFAILED) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use cloudevents::{EventBuilder, EventBuilderV10};

    use super::*;
    use orrery_config::broker::Broker;

    #[test]
    fn attributes_that_would_break_the_connection_are_refused() {
        let event = |subject: &str| {
            EventBuilderV10::new().id("1").source("/x").ty("t").subject(subject).build().unwrap()
        };
        let bus = Bus::new(Broker::default());
        assert!(encode(&bus, &event("short")).is_ok());
        let failure = encode(&bus, &event(&"x".repeat(MAX_ROOMY_BYTES))).unwrap_err();
        assert!(failure.reason.contains("8192 bytes"), "{}", failure.reason);
    }
}
