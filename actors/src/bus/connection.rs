//! Connections to the broker: opened on the main runtime, without lapin's recovery (an error ends their actor, which is built anew).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ConnectionStatus,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
    uri::AMQPUri,
};
use secrecy::ExposeSecret;

use crate::config::broker::Broker;

/// lapin keeps two buffers of 32 frames for each connection: at the usual 128 KiB a frame that is 8 MiB, at this size 1 MiB. Bodies
/// are split into frames; headers are not, and ours are kept below it.
const FRAME_MAX_BYTES: u32 = 16 * 1024;

/// Why the bus did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is no AMQP address.
    #[error("broker.url is no address of RabbitMQ: {0}")]
    Address(String),
    /// The broker is away or refused.
    #[error("the broker failed: {0}")]
    Amqp(#[from] lapin::Error),
    /// No answer came in time.
    #[error("no answer from the broker within {0:?}")]
    Timeout(Duration),
    /// The broker took a message and could not keep it.
    #[error("the broker refused to keep a message")]
    Nacked,
    /// No queue takes a message that must have one.
    #[error("no queue takes '{0}': run 'orrery migrate'")]
    Unroutable(String),
    /// The queue was deleted, or the broker ended the consumer.
    #[error("the broker ended the consumer of '{0}'")]
    Cancelled(String),
    /// A message cannot be written as AMQP.
    #[error("the message cannot be written: {0}")]
    Encode(#[from] cloudevents_amqp::EncodeError),
    /// A row of the outbox is no CloudEvent.
    #[error("the row is no CloudEvent: {0}")]
    Event(String),
    /// The database failed under the bus.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Where the broker is, and how to talk to it.
#[derive(Clone)]
pub struct Bus {
    config: Broker,
    /// The last connection of each actor.
    connections: Arc<Mutex<HashMap<String, ConnectionStatus>>>,
}

impl Bus {
    /// A bus by its configuration; nothing is opened yet.
    pub fn new(config: Broker) -> Self {
        Self { config, connections: Arc::default() }
    }

    /// How long to wait for an answer.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// How long to wait for a confirm.
    pub fn confirm_timeout(&self) -> Duration {
        self.config.confirm_timeout
    }

    /// Opens a connection that the broker knows by `name`. Call it on the main runtime.
    ///
    /// # Errors
    /// When the broker is away, refuses, or does not answer in time.
    pub async fn connect(&self, name: &str) -> Result<Connection, BusError> {
        self.open(name, Some(FRAME_MAX_BYTES)).await
    }

    /// The same for who reads what others wrote: frames are as large as the broker allows, since lapin ends a connection on which a larger
    /// one arrives, and a message with such headers would end every next one as well.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_with_large_frames(&self, name: &str) -> Result<Connection, BusError> {
        self.open(name, None).await
    }

    async fn open(&self, name: &str, frame_max: Option<u32>) -> Result<Connection, BusError> {
        let mut uri: AMQPUri = self.config.url.expose_secret().parse().map_err(BusError::Address)?;
        uri.query.heartbeat = Some(self.config.heartbeat_seconds);
        uri.query.frame_max = frame_max;
        let properties =
            ConnectionProperties::default().with_connection_name(format!("orrery-{name}").into());
        let connection = tokio::time::timeout(self.config.timeout, Connection::connect_uri(uri, properties))
            .await
            .map_err(|_| BusError::Timeout(self.config.timeout))??;
        let status = connection.status().clone();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), status);
        Ok(connection)
    }

    /// Whether every actor that opened a connection has it still.
    pub fn is_connected(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        !connections.is_empty() && connections.values().all(ConnectionStatus::connected)
    }

    /// Asks for a queue without declaring it.
    ///
    /// # Errors
    /// When it is missing, or the broker is away.
    pub async fn has_queue(&self, connection: &Connection, queue: &str) -> Result<(), BusError> {
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        Ok(())
    }

    /// A channel that confirms what is published on it.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn confirming(&self, connection: &Connection) -> Result<Channel, BusError> {
        let open = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        tokio::time::timeout(self.config.timeout, open)
            .await
            .map_err(|_| BusError::Timeout(self.config.timeout))?
    }

    /// Publishes to a queue by the default exchange and waits for the confirm.
    ///
    /// # Errors
    /// As `publish`.
    pub async fn publish_to_queue(
        &self,
        channel: &Channel,
        queue: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        self.publish(channel, "", queue, properties, body).await
    }

    /// Publishes to an exchange and waits for the confirm.
    ///
    /// # Errors
    /// When it is not confirmed: the message is then not safe, and what it was made from must not be acknowledged.
    pub async fn publish(
        &self,
        channel: &Channel,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        let publish = async {
            channel
                .basic_publish(exchange.into(), routing_key.into(), mandatory(), body, properties)
                .await?
                .await
                .map_err(BusError::Amqp)
        };
        let confirmation = tokio::time::timeout(self.config.confirm_timeout, publish)
            .await
            .map_err(|_| BusError::Timeout(self.config.confirm_timeout))??;
        match confirmation {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(BusError::Unroutable(routing_key.to_owned())),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(BusError::Nacked),
        }
    }
}

/// Mandatory: an unroutable message published without it is confirmed and gone.
pub(super) fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() }
}
