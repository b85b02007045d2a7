//! Connections to the broker: opened on the main runtime, without lapin's recovery (an error ends their actor, which is built anew), and what
//! the broker says of them. What is published goes over `channels`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloudevents::Event;
use cloudevents_amqp::{EncodeError, Encoded};
use lapin::{
    BasicProperties, Connection, ConnectionProperties, ConnectionStatus, ErrorKind,
    protocol::{AMQPErrorKind, AMQPSoftError},
    runtime::default_runtime,
    tcp::OwnedTLSConfig,
    uri::AMQPUri,
};
use orrery_config::{broker::Broker, secret};
use secrecy::ExposeSecret;

use super::{channels::Channels, frames, patience::Patience, publishing::Publishing, standing::Standing};

/// lapin keeps two buffers of 32 frames for each connection: at the usual 128 KiB a frame that is 8 MiB, at this size 1 MiB. Bodies
/// are split into frames; headers are not, and ours are kept below it. For who publishes and asks; who reads takes larger ones.
pub(super) const FRAME_MAX_BYTES: u32 = 16 * 1024;
/// How long a connection that is given up may take to say so; a blocked one writes nothing.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why the bus did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The address is no AMQP address.
    #[error("broker.url is no address of RabbitMQ: {0}")]
    Address(String),
    /// The file of certificates cannot be read.
    #[error("{0}")]
    Authority(String),
    /// The broker is away or refused.
    #[error("the broker failed: {0}")]
    Amqp(#[from] lapin::Error),
    /// The broker takes no messages.
    #[error("the broker takes no messages: {0}")]
    Blocked(String),
    /// No channel to publish on could be had.
    #[error("no channel to publish on: {0}")]
    Channels(String),
    /// No answer came in time.
    #[error("no answer from the broker within {0:?}")]
    Timeout(Duration),
    /// Its headers do not fit into one frame: the broker would close the connection for them.
    #[error("the message's headers have {0} bytes, a frame of ours takes 15360")]
    Headers(usize),
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
    Store(#[from] orrery_store::StoreError),
}

/// Where the broker is, and how to talk to it.
#[derive(Clone)]
pub struct Bus {
    opener: Opener,
    /// The last connection of each actor.
    connections: Arc<Mutex<HashMap<String, ConnectionStatus>>>,
    /// Why the last connection could not be opened, until one is.
    refusal: Arc<Mutex<Option<String>>>,
    channels: Channels,
    publishing: Publishing,
    standing: Standing,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Opener(Arc<Broker>, frames::Limit);

impl Bus {
    /// A bus by its configuration; nothing is opened yet.
    pub fn new(config: Broker) -> Self {
        let opener = Opener(Arc::new(config), frames::Limit::default());
        let channels = Channels::new(opener.clone());
        let publishing = Publishing::new(channels.clone(), opener.confirm_timeout());
        Self {
            opener,
            connections: Arc::default(),
            refusal: Arc::default(),
            channels,
            publishing,
            standing: Standing::default(),
        }
    }

    /// What is known of the queues that this process needs.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What is published on.
    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Why the broker takes no messages, while it does not: it is short of memory or disk. What is to be published waits, and what is
    /// read goes on.
    pub fn blocked(&self) -> Option<String> {
        self.channels.blocked()
    }

    /// How long to wait for an answer.
    pub fn timeout(&self) -> Duration {
        self.opener.timeout()
    }

    /// How long to wait for a confirm.
    pub fn confirm_timeout(&self) -> Duration {
        self.opener.confirm_timeout()
    }

    /// The virtual host.
    ///
    /// # Errors
    /// When the address is none.
    pub fn vhost(&self) -> Result<String, BusError> {
        Ok(self.opener.address()?.vhost)
    }

    /// Opens a connection that the broker knows by `name`. Call it on the main runtime.
    ///
    /// # Errors
    /// When the broker is away, refuses, or does not answer in time.
    pub async fn connect(&self, name: &str) -> Result<Connection, BusError> {
        self.registered(name, self.opener.open(name, FRAME_MAX_BYTES).await)
    }

    /// The same for a connection that comes and goes, and whose end tells nothing of the broker's health.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_aside(&self, name: &str) -> Result<Connection, BusError> {
        self.opener.open(name, FRAME_MAX_BYTES).await
    }

    /// The same for who reads what others wrote: frames are as large as the broker allows, since lapin ends a connection on which a larger
    /// one arrives, and a message with such headers would end every next one as well.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_with_large_frames(&self, name: &str) -> Result<Connection, BusError> {
        self.registered(name, self.opener.open_for_reading(name).await)
    }

    fn registered(&self, name: &str, opened: Result<Connection, BusError>) -> Result<Connection, BusError> {
        let refusal = opened.as_ref().err().map(ToString::to_string);
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        let connection = opened?;
        self.register(name, connection.status().clone());
        Ok(connection)
    }

    /// Makes the state of a connection count for health, under the name of the actor that has it.
    pub(super) fn register(&self, name: &str, status: ConnectionStatus) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), status);
    }

    /// Whether every actor that opened a connection has it still.
    pub fn is_connected(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        !connections.is_empty() && connections.values().all(ConnectionStatus::connected)
    }

    /// Why there is no connection, in the broker's own words where there are any; none when every actor has its own.
    pub fn away(&self) -> Option<String> {
        if self.is_connected() {
            return None;
        }
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(refusal.unwrap_or_else(|| "no connection to the broker yet".to_owned()))
    }

    /// Waits for an answer of the broker, as long as is configured.
    ///
    /// # Errors
    /// The answer's own error, and when none comes in time.
    pub async fn within<T>(&self, work: impl Future<Output = lapin::Result<T>>) -> Result<T, BusError> {
        within(self.opener.timeout(), work).await
    }

    /// An event as it is published; with its attributes said once more where a partner reads by AMQP 1.0 from RabbitMQ 3.
    ///
    /// # Errors
    /// When it is no valid event.
    pub fn encode(&self, event: &Event) -> Result<Encoded, EncodeError> {
        let encoded = cloudevents_amqp::encode_binary(event)?;
        let amqp10 = self.opener.0.partners.iter().any(|partner| partner.amqp10);
        Ok(if amqp10 { encoded.for_amqp10() } else { encoded })
    }

    /// Publishes to a queue by the default exchange and waits for the confirm.
    ///
    /// # Errors
    /// As `publish`.
    pub async fn publish_to_queue(
        &self,
        patience: &Patience,
        queue: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        self.publish(patience, "", queue, properties, body).await
    }

    /// Publishes to an exchange and waits for the confirm, and before it for a broker that takes messages.
    ///
    /// # Errors
    /// When it is not confirmed: the message is then not safe, and what it was made from must not be acknowledged.
    pub async fn publish(
        &self,
        patience: &Patience,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        self.publishing.publish(patience, exchange, routing_key, properties, body).await
    }
}

impl Opener {
    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    pub(super) fn confirm_timeout(&self) -> Duration {
        self.0.confirm_timeout
    }

    fn address(&self) -> Result<AMQPUri, BusError> {
        self.0.url.expose_secret().parse().map_err(BusError::Address)
    }

    pub(super) async fn open(&self, name: &str, frame_max: u32) -> Result<Connection, BusError> {
        let (uri, properties, tls) = self.parts(name, frame_max)?;
        let opening = Connection::connect_uri_with_config(uri, properties, tls, default_runtime()?);
        within(self.timeout(), opening).await
    }

    /// The same for who reads, with room for frames that are larger than the broker's limit. lapin makes its buffers before it hears of that, of what it is given here, and
    /// goes round in them until all of it is memory: so it is given what the broker is known to say, and a broker that says more is asked once more.
    async fn open_for_reading(&self, name: &str) -> Result<Connection, BusError> {
        let given = self.1.with_room();
        let connection = self.open_with_room(name, given).await?;
        if self.1.with_room() <= given {
            return Ok(connection);
        }
        close(&connection).await;
        self.open_with_room(name, self.1.with_room()).await
    }

    async fn open_with_room(&self, name: &str, given: u32) -> Result<Connection, BusError> {
        let (uri, properties, tls) = self.parts(name, given)?;
        let limit = self.1.clone();
        let opening = Connection::connector(
            uri,
            frames::runtime(&self.1),
            async move |uri: AMQPUri, _: async_rs::Runtime<frames::Kit>| {
                frames::connect(uri, tls.clone(), limit.clone()).await
            },
            properties,
        );
        within(self.timeout(), opening).await
    }

    fn parts(
        &self,
        name: &str,
        frame_max: u32,
    ) -> Result<(AMQPUri, ConnectionProperties, OwnedTLSConfig), BusError> {
        let mut uri = self.address()?;
        uri.query.heartbeat = Some(self.0.heartbeat_seconds);
        uri.query.frame_max = Some(frame_max);
        let properties =
            ConnectionProperties::default().with_connection_name(format!("orrery-{name}").into());
        Ok((uri, properties, OwnedTLSConfig { identity: None, cert_chain: self.authority()? }))
    }

    /// The authority that the configuration names, as PEM.
    fn authority(&self) -> Result<Option<String>, BusError> {
        let Some(file) = &self.0.ca_file else { return Ok(None) };
        let read = secret::read_text(file);
        read.map(Some)
            .map_err(|fault| BusError::Authority(format!("broker.ca_file: {} {fault}", file.display())))
    }
}

/// Waits for an answer of the broker, so long at most.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    tokio::time::timeout(limit, work).await.map_err(|_| BusError::Timeout(limit))?.map_err(BusError::Amqp)
}

/// Ends a connection whose work is done, in whatever way that ended; that it is closing by itself already is no fault, and that it cannot say so, as a
/// blocked one, neither: it ends when its last channel is dropped.
pub async fn close(connection: &Connection) {
    let _closed = within(CLOSE_LIMIT, connection.close(200, "".into())).await.is_ok();
}

/// With which of its refusals of a single channel the broker answered, if it was one.
pub fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(told) => match told.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}
