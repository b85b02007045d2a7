//! The archiver actor: moves dead letters from their queues into the table. Without PostgreSQL they wait in the queue.

use chrono::DateTime;
use cloudevents::AttributesReader;
use futures_util::{StreamExt, stream::select_all};
use lapin::{
    BasicProperties,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use orrery_observability::metrics;
use serde_json::Value;
use tracing::info;

use super::{
    BusError, Footing, HandlerSpec, bridge::BridgeSpec, connection::close, delivery::trace_of, envelope,
    header, topology,
};
use crate::{
    seal::sha256,
    store::dead_letters::{self, DeadLetter},
    supervise::{Pulse, Shutdown},
};

/// Letters that are held at once.
const PREFETCH: u16 = 32;

/// Archives the dead letters of this process's handlers.
pub struct Archiver {
    /// What it stands on; the pool's role may write dead letters.
    pub footing: Footing,
    /// The handlers.
    pub handlers: Vec<HandlerSpec>,
    /// The bridges, whose letters lie among the handlers'.
    pub bridges: Vec<BridgeSpec>,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Archiver {
    /// Archives until shutdown.
    ///
    /// # Errors
    /// When broker or database go away; what is not archived stays in its queue.
    pub async fn run(mut self) -> Result<(), BusError> {
        // Eight times the memory, for who needs it only.
        let connection = if self.handlers.iter().any(HandlerSpec::reads_foreign) {
            self.footing.bus.connect_with_large_frames("archiver").await?
        } else {
            self.footing.bus.connect("archiver").await?
        };
        let mut letters = Vec::new();
        for HandlerSpec { name: handler, .. } in &self.handlers {
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let consumer = channel
                .basic_consume(
                    topology::dead(handler).as_str().into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            letters.push(consumer.map(move |raw| (*handler, raw)));
        }
        let mut letters = select_all(letters);
        loop {
            tokio::select! {
                next = letters.next() => {
                    let (handler, raw) = next.ok_or_else(|| BusError::Cancelled("archiver".to_owned()))?;
                    let raw = raw?;
                    let held = self.pulse.take();
                    self.archive(handler, &raw).await?;
                    raw.acker.ack(BasicAckOptions::default()).await?;
                    held.done();
                    metrics::dead_letter(handler);
                }
                () = self.shutdown.requested() => {
                    close(&connection).await;
                    return Ok(());
                }
            }
        }
    }

    /// Whose letter it is: of the handler in whose queue it lay, or of a bridge's queue, to which a redrive puts it back.
    fn origin(&self, handler: &'static str, properties: &BasicProperties) -> &'static str {
        let named = envelope::text(properties, envelope::HANDLER);
        let bridges = self.bridges.iter().filter(|bridge| bridge.handler == handler);
        bridges.map(|bridge| bridge.queue).find(|queue| named.as_deref() == Some(queue)).unwrap_or(handler)
    }

    async fn archive(&self, handler: &'static str, raw: &Raw) -> Result<(), BusError> {
        let properties = &raw.properties;
        let (lane, handler) = (handler, self.origin(handler, properties));
        let event = cloudevents_amqp::decode(properties, &raw.data).ok();
        let attempt = envelope::attempt(properties);
        let reason = envelope::text(properties, envelope::REASON).unwrap_or_else(|| unanswered(properties));
        // A letter that the broker itself moved carries no id: its handler, what it is known by and its content are its identity.
        let letter = envelope::text(properties, envelope::LETTER).unwrap_or_else(|| {
            let known = event.as_ref().map(|event| format!("{}\0{}", event.source(), event.id()));
            let known = known.unwrap_or_default();
            hex::encode(sha256(&[handler.as_bytes(), b"\0", known.as_bytes(), b"\0", &raw.data].concat()))
        });
        let causes = envelope::text(properties, envelope::CAUSES)
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let failed_at = envelope::text(properties, envelope::FAILED_AT)
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map_or_else(|| self.footing.clock.now(), |time| time.to_utc());
        // What came by a bridge has an id that others chose, and may name somebody.
        let id = event.as_ref().map(AttributesReader::id).filter(|_| handler == lane);
        info!(handler, event = id, reason, "dead letter archived");
        let letter = DeadLetter {
            id: self.footing.random.uuid_v7(&self.footing.clock),
            handler: handler.to_owned(),
            letter,
            source: event.as_ref().map(|event| keepable(&event.source().to_string())),
            event_id: event.as_ref().map(|event| keepable(event.id())),
            ty: event.as_ref().map(|event| keepable(event.ty())),
            reason: keepable(&reason),
            causes,
            attempts: i32::try_from(attempt).unwrap_or(i32::MAX),
            trace_id: event.as_ref().and_then(trace_of).map(|trace| trace.trace_id()),
            failed_at,
            content_type: properties.content_type().as_ref().map(|ty| keepable(ty.as_str())),
            headers: headers(properties),
            body: raw.data.clone(),
        };
        let mut connection = self.footing.pool.get().await?;
        Ok(dead_letters::insert(&mut connection, letter).await?)
    }
}

/// PostgreSQL's texts have no NUL; the message itself is kept as it came.
fn keepable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn unanswered(properties: &BasicProperties) -> String {
    let why =
        envelope::text(properties, "x-first-death-reason").unwrap_or_else(|| "delivery_limit".to_owned());
    format!("it came back without an answer until its limit was reached ({why})")
}

/// All of them: what the broker added for its own bookkeeping is dropped by a redrive.
fn headers(properties: &BasicProperties) -> Value {
    properties.headers().as_ref().map(header::table_to_json).unwrap_or_default().into()
}
