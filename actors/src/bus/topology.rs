//! The topology of `contracts/broker.md`: exchanges, and per handler the queue, its retries, its quarantine and its dead letters.
//! `orrery migrate` declares it; nothing else does.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use super::{Bus, BusError, HandlerSpec};

/// The topic exchange of events; the routing key is the event's type.
pub const EVENTS: &str = "events";

/// The exchange by which third parties' events enter.
pub const INGRESS: &str = "ingress";

/// Returns that a message may have without an answer before it goes to the quarantine lane.
const MAIN_LIMIT: i64 = 1;
/// The same for the quarantine lane, before it is a dead letter.
const QUARANTINE_LIMIT: i64 = 4;

/// The dead letters of a handler.
pub fn dead(handler: &str) -> String {
    format!("{handler}.dead")
}

/// The quarantine lane of a handler.
pub fn quarantine(handler: &str) -> String {
    format!("{handler}.quarantine")
}

/// Where a message waits for `delay` before it comes back.
pub fn retry(handler: &str, delay: Duration) -> String {
    format!("{handler}.retry.{}", delay.as_millis())
}

/// Declares the exchanges.
///
/// # Errors
/// When the broker is away, or an exchange stands with other arguments.
pub async fn declare_exchanges(channel: &Channel) -> Result<(), BusError> {
    for exchange in [EVENTS, INGRESS] {
        channel
            .exchange_declare(
                exchange.into(),
                ExchangeKind::Topic,
                ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() },
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

/// Declares the queues of one handler, what a queue points at before the queue, and binds last.
///
/// # Errors
/// When the broker is away, or a queue stands with other arguments.
pub async fn declare_handler(
    channel: &Channel,
    spec: &HandlerSpec,
    default_limit: bool,
) -> Result<(), BusError> {
    let name = spec.name;
    declare(channel, &dead(name), if default_limit { unlimited() } else { quorum() }).await?;
    declare(channel, &quarantine(name), limited(QUARANTINE_LIMIT, &dead(name))).await?;
    declare(channel, name, limited(MAIN_LIMIT, &quarantine(name))).await?;
    for delay in spec.delays() {
        let mut arguments = dead_lettering_to(name);
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
        declare(channel, &retry(name, delay), arguments).await?;
    }
    for ty in &spec.bindings {
        channel
            .queue_bind(
                name.into(),
                EVENTS.into(),
                (*ty).into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

/// Whether dead letters' queues need their delivery limit taken away, as in RabbitMQ 4, which gives quorum queues one of 20 that an
/// outage of the database would use up. RabbitMQ 3 has no such limit and refuses the -1, which costs the connection's channel: so it is
/// asked on a connection of its own, by declaring the queue of `handler`.
///
/// # Errors
/// When the broker is away.
pub async fn has_default_limit(bus: &Bus, handler: &str) -> Result<bool, BusError> {
    let connection = bus.connect("topology").await?;
    let channel = connection.create_channel().await?;
    let unlimited = declare(&channel, &dead(handler), unlimited()).await.is_ok();
    // After a refusal the connection may be closing by itself.
    let _closed = connection.close(200, "".into()).await.is_ok();
    Ok(unlimited)
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) -> Result<(), BusError> {
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn unlimited() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    arguments
}

fn dead_lettering_to(queue: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(queue));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

fn limited(limit: i64, queue: &str) -> FieldTable {
    let mut arguments = dead_lettering_to(queue);
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}
