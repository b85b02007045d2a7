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
    BasicProperties, Channel,
    message::Delivery as Raw,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions,
    },
    protocol::AMQPSoftError,
    types::FieldTable,
};
use tracing::{debug, warn};

use super::{
    Bus, BusError, Footing, MAX_MESSAGE_BYTES,
    connection::close,
    envelope::{self, header_bytes},
    handler::Failure,
    topology::{self, declare::soft},
};
use crate::supervise::{Pulse, Shutdown};

/// Messages that are on their way at once.
const PREFETCH: u16 = 32;
/// What the headers of a message may take together: they travel in one frame, and a publish that breaks its connection would be begun
/// for ever.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// A bridge's name, where it reads and where it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name.
    pub name: &'static str,
    /// The queue that it empties.
    pub queue: &'static str,
    /// How that queue is declared.
    pub source: Source,
    /// The exchange that it publishes to, empty for the default one.
    pub exchange: &'static str,
    /// The key that it publishes with.
    pub routing_key: &'static str,
    /// Among whose dead letters lies what cannot be turned.
    pub handler: &'static str,
}

/// How a bridge's queue is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Classic, durable, without arguments, as its publishers declare it themselves.
    Legacy,
    /// A quorum queue, bound by this key to the exchange of third parties.
    Ingress(&'static str),
}

/// What a message becomes.
#[derive(Debug, Default)]
pub struct Turned {
    /// The events that are published in its place; their ids are the same each time.
    pub events: Vec<Event>,
    /// How many parts of it concern nobody.
    pub skipped: usize,
    /// Why it, or a part of it, cannot be turned: then it is a dead letter as well, as it came.
    pub failure: Option<Failure>,
}

/// Says what a message becomes.
pub type Turn = dyn Fn(&BasicProperties, &[u8]) -> Turned + Send + Sync;

/// Moves.
pub struct Bridge {
    /// What it stands on.
    pub footing: Footing,
    /// Where it reads and writes.
    pub spec: BridgeSpec,
    /// What messages become.
    pub turn: Arc<Turn>,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Bridge {
    /// Moves until shutdown.
    ///
    /// # Errors
    /// When the broker goes away or does not confirm: what is not confirmed stays in its queue, and the supervisor builds a new bridge.
    pub async fn run(self) -> Result<(), BusError> {
        let mut shutdown = self.shutdown.clone();
        let connection = self.footing.bus.connect_with_large_frames(self.spec.name).await?;
        let publish = self.footing.bus.confirming(&connection).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(
                self.spec.queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let tag = consumer.tag();
        let mut moves =
            pin!(consumer.map(|raw| self.move_one(&publish, raw)).buffer_unordered(usize::from(PREFETCH)));
        loop {
            tokio::select! {
                moved = moves.next() => {
                    moved.ok_or_else(|| BusError::Cancelled(self.spec.queue.to_owned()))??;
                }
                () = shutdown.requested() => break,
            }
        }
        channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
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
        close(&connection).await;
        Ok(())
    }

    async fn move_one(&self, publish: &Channel, raw: lapin::Result<Raw>) -> Result<(), BusError> {
        let raw = raw?;
        let held = self.pulse.take();
        let Moved { messages, skipped, failure } = self.turned(&raw);
        let BridgeSpec { name, queue, exchange, routing_key, handler, .. } = self.spec;
        for message in &messages {
            let properties = message.properties.clone();
            self.footing.bus.publish(publish, exchange, routing_key, properties, &message.body).await?;
        }
        if let Some(failure) = failure {
            warn!(bridge = name, reason = failure.reason, causes = ?failure.causes, "cannot be turned, is a dead letter");
            let letter = self.footing.random.uuid_v7(&self.footing.clock);
            let now = self.footing.clock.now();
            let properties = envelope::dead(&fitting(&raw.properties), 1, queue, &failure, now, letter);
            self.footing
                .bus
                .publish_to_queue(publish, &topology::dead(handler), properties, &raw.data)
                .await?;
        }
        raw.acker.ack(BasicAckOptions::default()).await?;
        held.done();
        debug!(bridge = name, moved = messages.len(), skipped, "moved");
        Ok(())
    }

    fn turned(&self, raw: &Raw) -> Moved {
        if raw.data.len() > MAX_MESSAGE_BYTES {
            let failure = Failure::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes"));
            return Moved { failure: Some(failure), ..Moved::default() };
        }
        let turn = AssertUnwindSafe(|| (self.turn)(&raw.properties, &raw.data));
        // A message that makes it panic would come again and again.
        let mut turned = std::panic::catch_unwind(turn).unwrap_or_else(|_| Turned {
            failure: Some(Failure::new("the bridge panicked")),
            ..Turned::default()
        });
        let mut moved = Moved { skipped: turned.skipped, failure: turned.failure, ..Moved::default() };
        let renewed = envelope::text(&raw.properties, envelope::EXPIRY);
        for event in &mut turned.events {
            if let Some(expiry) = &renewed {
                event.set_extension("expirytime", expiry.as_str());
            }
            match encode(&self.footing.bus, event) {
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
    if message.properties.headers().as_ref().is_some_and(|headers| header_bytes(headers) > MAX_HEADER_BYTES) {
        return Err(Failure::new(format!("the event's attributes take more than {MAX_HEADER_BYTES} bytes")));
    }
    Ok(message)
}

/// The properties of a message that is buried, without headers that leave no room for the reason: a publisher's frames may be larger
/// than ours.
fn fitting(properties: &BasicProperties) -> BasicProperties {
    match properties.headers() {
        Some(headers) if header_bytes(headers) > MAX_HEADER_BYTES => {
            properties.clone().with_headers(FieldTable::default())
        }
        _ => properties.clone(),
    }
}

/// Declares a legacy queue. False when it stands with other arguments, which does no harm: it is only read.
///
/// # Errors
/// When the broker is away or refuses for another reason.
pub async fn declare_legacy(bus: &Bus, queue: &str) -> Result<bool, BusError> {
    // A refusal costs the connection: it has one of its own.
    let connection = bus.connect(queue).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions::durable();
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Err(error) if soft(&error) == Some(AMQPSoftError::PRECONDITIONFAILED) => return Ok(false),
        declared => declared?,
    };
    connection.close(200, "".into()).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use cloudevents::{EventBuilder, EventBuilderV10};

    use lapin::types::AMQPValue;

    use super::*;
    use crate::config::broker::Broker;

    #[test]
    fn attributes_that_would_break_the_connection_are_refused() {
        let event = |subject: &str| {
            EventBuilderV10::new().id("1").source("/x").ty("t").subject(subject).build().unwrap()
        };
        let bus = Bus::new(Broker::default());
        assert!(encode(&bus, &event("short")).is_ok());
        let failure = encode(&bus, &event(&"x".repeat(MAX_HEADER_BYTES))).unwrap_err();
        assert!(failure.reason.contains("8192 bytes"), "{}", failure.reason);
    }

    #[test]
    fn headers_that_leave_no_room_for_the_reason_are_dropped() {
        let with = |value: AMQPValue| {
            let mut headers = FieldTable::default();
            headers.insert("x".into(), value);
            fitting(&BasicProperties::default().with_content_type("a/b".into()).with_headers(headers))
        };
        let kept = |properties: &BasicProperties| properties.headers().as_ref().unwrap().inner().len();
        assert_eq!(kept(&with(AMQPValue::LongString("short".into()))), 1);
        let long = || AMQPValue::LongString("x".repeat(MAX_HEADER_BYTES).into());
        for value in [long(), AMQPValue::FieldArray(vec![long()].into())] {
            let properties = with(value);
            assert_eq!((kept(&properties), properties.content_type().is_some()), (0, true));
        }
    }
}
