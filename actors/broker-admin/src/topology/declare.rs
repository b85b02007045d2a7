//! Declaring the topology, and asking the broker what of it stands otherwise: by the words with which it refuses a declaration.

use lapin::{
    BasicProperties, Channel, Connection, ErrorKind, ExchangeKind,
    options::{
        BasicGetOptions, BasicNackOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::AMQPSoftError,
    types::FieldTable,
};
use orrery_bus::{
    Bus, BusError, Patience,
    connection::{close, soft},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Arguments, Binding, Queue, Topology,
    difference::{Difference, Inequality},
    table,
};

/// Arguments of one queue that are looked at, one refusal each; ours have six.
const MAX_REFUSALS: usize = 12;

/// Declares what is missing; what stands otherwise is left as it is and told.
///
/// # Errors
/// When the broker is away, or refuses for another reason.
pub async fn declare(
    bus: &Bus,
    connection: &Connection,
    wanted: &Topology,
) -> Result<Vec<Difference>, BusError> {
    let mut differences = Vec::new();
    for exchange in &wanted.exchanges {
        if let Some(words) = exchange_refusal(bus, connection, exchange).await? {
            differences.push(exchange_difference(exchange, &words));
        }
    }
    for queue in &wanted.queues {
        differences.extend(queue_difference(bus, connection, queue).await?);
    }
    let channel = bus.within(connection.create_channel()).await?;
    for Binding { exchange, queue, key } in &wanted.bindings {
        let (queue, exchange, key) = (queue.as_str().into(), exchange.as_str().into(), key.as_str().into());
        let bind =
            channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
        bus.within(bind).await?;
    }
    bus.within(channel.close(200, "".into())).await?;
    Ok(differences)
}

/// What of it is missing or stands otherwise, as far as the broker tells without its management plugin: bindings and policies it does
/// not. Declares nothing.
///
/// # Errors
/// As `declare`.
pub async fn probe(
    bus: &Bus,
    connection: &Connection,
    wanted: &Topology,
) -> Result<Vec<Difference>, BusError> {
    let mut differences = Vec::new();
    for exchange in &wanted.exchanges {
        let channel = bus.within(connection.create_channel()).await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Topic;
        let asked = channel.exchange_declare(exchange.as_str().into(), kind, options, FieldTable::default());
        if !is_there(bus, &channel, bus.within(asked).await).await? {
            differences.push(Difference::ExchangeMissing { exchange: exchange.clone() });
        } else if let Some(words) = exchange_refusal(bus, connection, exchange).await? {
            differences.push(exchange_difference(exchange, &words));
        }
    }
    for queue in &wanted.queues {
        match depth(bus, connection, &queue.name).await? {
            Some(_) => differences.extend(queue_difference(bus, connection, queue).await?),
            None => differences.push(Difference::QueueMissing { queue: queue.name.clone() }),
        }
    }
    Ok(differences)
}

/// Messages that wait in a queue, and its consumers; `None` when there is no such queue.
///
/// # Errors
/// As `declare`.
pub async fn depth(bus: &Bus, connection: &Connection, queue: &str) -> Result<Option<(u32, u32)>, BusError> {
    let channel = bus.within(connection.create_channel()).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let mut depth = (0, 0);
    let asked = bus.within(channel.queue_declare(queue.into(), passive, FieldTable::default())).await;
    let asked = asked.map(|queue| depth = (queue.message_count(), queue.consumer_count()));
    Ok(is_there(bus, &channel, asked).await?.then_some(depth))
}

/// Whether a limit of -1 means none, as in RabbitMQ 4, which without it gives quorum queues one of 20, so that an outage of the
/// database would use up a dead letter. RabbitMQ 3.10 has no such default, takes the -1, and loses the message on its first return:
/// so it is asked with a message in a queue of its own.
///
/// # Errors
/// As `declare`, and when the broker takes no messages.
pub async fn has_default_limit(bus: &Bus, name: Uuid) -> Result<bool, BusError> {
    let connection = bus.connect_aside("topology").await?;
    let queue = format!("orrery.probe.{name}");
    let told = returns(bus, &connection, &queue).await;
    let delete = async {
        let channel = connection.create_channel().await?;
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await
    };
    let deleted = bus.within(delete).await;
    close(&connection).await;
    let told = told?;
    deleted?;
    Ok(told)
}

/// Whether a message comes back from a queue with the limit -1. The message is published on a connection of its own: one that the broker blocks
/// could not even delete the queue.
async fn returns(bus: &Bus, connection: &Connection, queue: &str) -> Result<bool, BusError> {
    let mut arguments = Arguments::new();
    arguments.insert("x-queue-type".to_owned(), "quorum".into());
    arguments.insert("x-delivery-limit".to_owned(), (-1).into());
    // Should we be killed meanwhile.
    arguments.insert("x-expires".to_owned(), 60_000.into());
    let channel = bus.within(connection.create_channel()).await?;
    let declared = channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), table(&arguments));
    match bus.within(declared).await {
        Ok(_) => {}
        // A broker that refuses the argument has no such default.
        Err(error) => return refusal(error).map(|_| false),
    }
    bus.publish_to_queue(&Patience::none(), queue, BasicProperties::default(), b"").await?;
    let get = || channel.basic_get(queue.into(), BasicGetOptions::default());
    let Some(got) = bus.within(get()).await? else { return Ok(false) };
    let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    bus.within(async { got.delivery.acker.nack(requeue).await.map(drop) }).await?;
    let back = bus.within(get()).await?.is_some();
    bus.within(channel.close(200, "".into())).await?;
    Ok(back)
}

/// Declares an exchange on a channel of its own, since a refusal costs the channel; gives the refusal's words.
async fn exchange_refusal(
    bus: &Bus,
    connection: &Connection,
    exchange: &str,
) -> Result<Option<String>, BusError> {
    let channel = bus.within(connection.create_channel()).await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = exchange.into();
    let declared = channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
    refused(bus, &channel, bus.within(declared).await).await
}

fn exchange_difference(exchange: &str, words: &str) -> Difference {
    let Some(inequality) = Inequality::in_refusal(words) else {
        return Difference::Refused { what: format!("exchange {exchange}"), words: words.to_owned() };
    };
    Difference::Exchange { exchange: exchange.to_owned(), inequality }
}

/// Declares a queue. Each refusal names one argument: it is declared again with what stands, until nothing differs.
pub(super) async fn queue_difference(
    bus: &Bus,
    connection: &Connection,
    queue: &Queue,
) -> Result<Option<Difference>, BusError> {
    let mut asked = queue.arguments.clone();
    let mut inequalities: Vec<Inequality> = Vec::new();
    while inequalities.len() < MAX_REFUSALS {
        let channel = bus.within(connection.create_channel()).await?;
        let options = QueueDeclareOptions::durable();
        let declared = channel.queue_declare(queue.name.as_str().into(), options, table(&asked));
        let Some(words) = refused(bus, &channel, bus.within(declared).await).await? else { break };
        let Some(mut found) = Inequality::in_refusal(&words) else {
            if inequalities.is_empty() {
                return Ok(Some(Difference::Refused { what: format!("queue {}", queue.name), words }));
            }
            break;
        };
        // Not an argument (durable, exclusive), or asked already: more cannot be learnt.
        let known = inequalities.iter().any(|known| known.argument == found.argument);
        let is_argument = found.argument.starts_with("x-");
        if is_argument {
            found.wanted = queue.arguments.get(&found.argument).cloned();
        }
        match found.standing.clone() {
            Some(value) => asked.insert(found.argument.clone(), value),
            None => asked.remove(&found.argument),
        };
        if !known {
            inequalities.push(found);
        }
        if known || !is_argument {
            break;
        }
    }
    let other = Difference::Queue { queue: queue.clone(), inequalities };
    Ok((!matches!(&other, Difference::Queue { inequalities, .. } if inequalities.is_empty()))
        .then_some(other))
}

async fn is_there<T>(bus: &Bus, channel: &Channel, asked: Result<T, BusError>) -> Result<bool, BusError> {
    match asked {
        Ok(_) => {
            bus.within(channel.close(200, "".into())).await?;
            Ok(true)
        }
        Err(BusError::Amqp(error)) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn refused<T>(
    bus: &Bus,
    channel: &Channel,
    declared: Result<T, BusError>,
) -> Result<Option<String>, BusError> {
    match declared {
        Ok(_) => {
            bus.within(channel.close(200, "".into())).await?;
            Ok(None)
        }
        Err(error) => refusal(error).map(Some),
    }
}

/// The words of a declaration refused for what stands (406); any other error is one.
fn refusal(error: BusError) -> Result<String, BusError> {
    let BusError::Amqp(told) = &error else { return Err(error) };
    match told.kind() {
        ErrorKind::ProtocolError(words) if soft(told) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
            Ok(words.get_message().to_string())
        }
        _ => Err(error),
    }
}

/// The value that a refusal quotes, by its looks: whole numbers and texts are all that arguments hold.
pub(super) fn value(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from)
}
