//! Connections to the broker: opened on the main runtime, without lapin's recovery (an error ends their actor, which is built anew).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloudevents::Event;
use cloudevents_amqp::{EncodeError, Encoded};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ConnectionStatus,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    uri::AMQPUri,
};
use secrecy::ExposeSecret;

use crate::config::broker::Broker;

/// lapin keeps two buffers of 32 frames for each connection: at the usual 128 KiB a frame that is 8 MiB, at this size 1 MiB. Bodies
/// are split into frames; headers are not, and ours are kept below it.
pub(super) const FRAME_MAX_BYTES: u32 = 16 * 1024;

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
    Encode(#[from] EncodeError),
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

    /// The virtual host.
    ///
    /// # Errors
    /// When the address is none.
    pub fn vhost(&self) -> Result<String, BusError> {
        let uri: AMQPUri = self.config.url.expose_secret().parse().map_err(BusError::Address)?;
        Ok(uri.vhost)
    }

    /// Opens a connection that the broker knows by `name`. Call it on the main runtime.
    ///
    /// # Errors
    /// When the broker is away, refuses, or does not answer in time.
    pub async fn connect(&self, name: &str) -> Result<Connection, BusError> {
        Ok(self.registered(name, self.open(name, Some(FRAME_MAX_BYTES)).await?))
    }

    /// The same for a connection that comes and goes, and whose end tells nothing of the broker's health.
    pub(super) async fn connect_aside(&self, name: &str) -> Result<Connection, BusError> {
        self.open(name, Some(FRAME_MAX_BYTES)).await
    }

    /// The same for who reads what others wrote: frames are as large as the broker allows, since lapin ends a connection on which a larger
    /// one arrives, and a message with such headers would end every next one as well.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_with_large_frames(&self, name: &str) -> Result<Connection, BusError> {
        Ok(self.registered(name, self.open(name, None).await?))
    }

    fn registered(&self, name: &str, connection: Connection) -> Connection {
        let status = connection.status().clone();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), status);
        connection
    }

    async fn open(&self, name: &str, frame_max: Option<u32>) -> Result<Connection, BusError> {
        let mut uri: AMQPUri = self.config.url.expose_secret().parse().map_err(BusError::Address)?;
        uri.query.heartbeat = Some(self.config.heartbeat_seconds);
        uri.query.frame_max = frame_max;
        let properties =
            ConnectionProperties::default().with_connection_name(format!("orrery-{name}").into());
        Ok(tokio::time::timeout(self.config.timeout, Connection::connect_uri(uri, properties))
            .await
            .map_err(|_| BusError::Timeout(self.config.timeout))??)
    }

    /// Whether every actor that opened a connection has it still.
    pub fn is_connected(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        !connections.is_empty() && connections.values().all(ConnectionStatus::connected)
    }

    /// Waits for an answer of the broker, as long as is configured.
    ///
    /// # Errors
    /// The answer's own error, and when none comes in time.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BusError> {
        let limit = self.config.timeout;
        tokio::time::timeout(limit, work).await.map_err(|_| BusError::Timeout(limit))?.map_err(BusError::Amqp)
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
        self.within(open).await
    }

    /// An event as it is published; with its attributes said once more where a partner reads by AMQP 1.0 from RabbitMQ 3.
    ///
    /// # Errors
    /// When it is no valid event.
    pub fn encode(&self, event: &Event) -> Result<Encoded, EncodeError> {
        let encoded = cloudevents_amqp::encode_binary(event)?;
        let amqp10 = self.config.partners.iter().any(|partner| partner.amqp10);
        Ok(if amqp10 { encoded.for_amqp10() } else { encoded })
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

/// Ends a connection whose work is done; that it is closing by itself already is no fault.
pub(super) async fn close(connection: &Connection) {
    let _closed = connection.close(200, "".into()).await.is_ok();
}
