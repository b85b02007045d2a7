//! The archiver actor: moves dead letters from their queues into the table. Without PostgreSQL they wait in the queue.

use std::{convert::Infallible, time::Duration};

use chrono::DateTime;
use cloudevents::AttributesReader;
use futures_util::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Connection,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use orrery_observability::metrics;
use orrery_schemas::topology;
use orrery_seal::sha256;
use orrery_store::{
    StoreError,
    dead_letters::{self, DeadLetter},
};
use orrery_supervise::{Actor, ActorError, Life, Mailbox, Progress, Shutdown, Supervisor};
use serde_json::Value;
use tracing::{debug, error, info, warn};

use super::{
    BusError, Dependencies, HandlerSpec, Patience,
    bridge::BridgeSpec,
    connection::close,
    delivery::trace_of,
    envelope::{self, MAX_HEADER_BYTES, fitting},
    field_table,
    handler::PAUSE,
    standing,
};

/// How often letters are counted, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Letters of a handler that are held at once.
const PREFETCH: u16 = 32;
/// How long a letter is held that cannot be stored, before it goes to the end of its queue; and how long where there are many.
const SET_BACK: Duration = Duration::from_secs(30);
const SET_BACK_MANY: Duration = Duration::from_secs(1);

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Subscription,
    Shutdown,
}

/// Archives the dead letters of this process's handlers.
#[derive(Clone)]
pub struct Archiver {
    dependencies: Dependencies,
    handlers: Vec<HandlerSpec>,
    bridges: Vec<BridgeSpec>,
    progress: Progress,
    shutdown: Shutdown,
}

impl Actor for Archiver {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let archiver = Self { progress: life.progress(), shutdown: life.shutdown(), ..self.clone() };
        life.run(archiver.run());
        Ok(())
    }
}

impl Archiver {
    /// Starts the archiver of these handlers and bridges, whose letters lie among the handlers'; the pool's role may write dead letters.
    pub fn start(
        supervisor: &Supervisor,
        dependencies: Dependencies,
        handlers: Vec<HandlerSpec>,
        bridges: Vec<BridgeSpec>,
    ) {
        let (progress, shutdown) = (Progress::default(), supervisor.shutdown_signal());
        let archiver = Self { dependencies, handlers, bridges, progress, shutdown };
        supervisor.start_actor("archiver", Mailbox::own_work(1), move || archiver.clone());
    }

    /// Archives until shutdown. What is not archived stays in its queue.
    async fn run(self) -> Result<(), BusError> {
        let connection = self.dependencies.bus.connect_with_large_frames("archiver").await?;
        // Each queue by itself: what ends one subscription, or holds it up, is nothing to the others.
        let queues = try_join_all(self.handlers.iter().map(|spec| self.empty(&connection, spec.name)));
        let ended = tokio::select! {
            ended = queues => ended.map(drop),
            never = self.count() => match never {},
        };
        close(&connection).await;
        ended
    }

    /// Shows how many letters wait for an operator. What cannot be counted is shown as it was.
    async fn count(&self) -> Infallible {
        let bridges = self.bridges.iter().map(|bridge| bridge.queue);
        let handlers: Vec<_> = self.handlers.iter().map(|spec| spec.name).chain(bridges).collect();
        let mut tick = tokio::time::interval(COUNT_EVERY);
        loop {
            tick.tick().await;
            let counted = async {
                let mut connection = self.dependencies.pool.get().await?;
                dead_letters::read::waiting(&mut connection, &handlers).await
            };
            match counted.await {
                Ok(counts) => counts.into_iter().for_each(|(handler, letters)| {
                    metrics::dead_letters_waiting(handler, letters);
                }),
                Err::<_, StoreError>(error) => debug!(%error, "dead letters could not be counted"),
            }
        }
    }

    /// Empties the queue of a handler's dead letters, by one subscription after another.
    async fn empty(&self, connection: &Connection, handler: &'static str) -> Result<(), BusError> {
        let (queue, mut shutdown) = (topology::dead(handler), self.shutdown.clone());
        loop {
            if standing::waiting(&self.dependencies.bus, connection, &queue).await?.is_some() {
                info!(queue, "reading dead letters");
                if self.read(connection, handler, &queue).await? == End::Shutdown {
                    return Ok(());
                }
            }
            warn!(queue, "is not there, or was deleted: it is read again once 'orrery migrate' has made it");
            self.dependencies.bus.standing().is_missing(&queue);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    /// Reads by one subscription until that ends.
    async fn read(
        &self,
        connection: &Connection,
        handler: &'static str,
        queue: &str,
    ) -> Result<End, BusError> {
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let letters =
                channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
            Ok((channel, letters))
        };
        let (_channel, mut letters) = self.dependencies.bus.within(open).await?;
        let mut shutdown = self.shutdown.clone();
        // Letters that the database did not take: held for a while, then put behind the others.
        let mut set_back = FuturesUnordered::new();
        loop {
            tokio::select! {
                next = letters.next() => {
                    // The broker ends a consumer without an error when its queue is deleted.
                    let Some(raw) = next else { return Ok(End::Subscription) };
                    let raw = raw?;
                    let held = self.progress.begin();
                    match self.archive(handler, &raw).await {
                        Ok(()) => {
                            raw.acker.ack(BasicAckOptions::default()).await?;
                            metrics::dead_letter(handler);
                        }
                        // One letter that the database does not take never holds up the next.
                        Err(BusError::Store(error)) if !error.is_outage() => {
                            error!(handler, %error, "a dead letter cannot be stored: it goes to the end of its queue");
                            let wait = if set_back.len() < usize::from(PREFETCH / 2) { SET_BACK } else { SET_BACK_MANY };
                            set_back.push(self.set_back(queue, raw, wait));
                        }
                        Err(error) => return Err(error),
                    }
                    held.done();
                }
                Some(done) = set_back.next() => done?,
                () = shutdown.requested() => return Ok(End::Shutdown),
            }
        }
    }

    /// Puts a letter at the end of its queue.
    async fn set_back(&self, queue: &str, raw: Raw, wait: Duration) -> Result<(), BusError> {
        tokio::time::sleep(wait).await;
        let patience = Patience::of(&self.progress, &self.shutdown);
        let properties = fitting(&raw.properties, MAX_HEADER_BYTES);
        self.dependencies.bus.publish_to_queue(&patience, queue, properties, &raw.data).await?;
        raw.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Whose letter it is: of the handler in whose queue it lay, or of a bridge's queue, to which a redrive puts it back.
    fn origin(&self, handler: &'static str, properties: &BasicProperties) -> &'static str {
        let named = envelope::text(properties, envelope::HANDLER);
        let bridges = self.bridges.iter().filter(|bridge| bridge.handler == handler);
        bridges.map(|bridge| bridge.queue).find(|queue| named.as_deref() == Some(queue)).unwrap_or(handler)
    }

    async fn archive(&self, handler: &'static str, raw: &Raw) -> Result<(), BusError> {
        let properties = &raw.properties;
        let (reader, handler) = (handler, self.origin(handler, properties));
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
            .map_or_else(|| self.dependencies.clock.now(), |time| time.to_utc());
        // What came by a bridge has an id that others chose, and may name somebody.
        let id = event.as_ref().map(AttributesReader::id).filter(|_| handler == reader);
        info!(handler, event = id, reason, "dead letter archived");
        let letter = DeadLetter {
            id: self.dependencies.random.uuid_v7(&self.dependencies.clock),
            handler: handler.to_owned(),
            letter,
            source: event.as_ref().map(|event| event.source().to_string()),
            event_id: event.as_ref().map(|event| event.id().to_owned()),
            ty: event.as_ref().map(|event| event.ty().to_owned()),
            reason,
            causes,
            attempts: i32::try_from(attempt).unwrap_or(i32::MAX),
            trace_id: event.as_ref().and_then(trace_of).map(|trace| trace.trace_id()),
            failed_at,
            content_type: properties.content_type().as_ref().map(|ty| ty.as_str().to_owned()),
            headers: headers(properties),
            body: raw.data.clone(),
        };
        let mut connection = self.dependencies.pool.get().await?;
        Ok(dead_letters::insert(&mut connection, letter).await?)
    }
}

fn unanswered(properties: &BasicProperties) -> String {
    let why =
        envelope::text(properties, "x-first-death-reason").unwrap_or_else(|| "delivery_limit".to_owned());
    format!("it came back without an answer until its limit was reached ({why})")
}

/// All of them: what the broker added for its own bookkeeping is dropped by a redrive.
fn headers(properties: &BasicProperties) -> Value {
    properties.headers().as_ref().map(field_table::table_to_json).unwrap_or_default().into()
}
