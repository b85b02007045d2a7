//! Hears of changed accounts and drops what the cache has of them. Every replica of the gateway hears of every change, by a queue of its own that
//! goes with its connection; without a broker answers live as long as they say themselves.

use cloudevents::AttributesReader;
use futures_util::StreamExt;
use lapin::{
    Connection, Consumer,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use orrery_bus::{Bus, BusError, connection::close};
use orrery_schemas::{
    events::{AccountUpdated, EventData},
    topology::EVENTS,
};

use orrery_supervise::{Actor, ActorError, Life, Shutdown, random::Random};
use tracing::warn;

use super::Cache;

/// What is told when an account is gone.
const DELETED: &str = "com.gravitalia.account.deleted.v1";

/// Listens for changes.
#[derive(Clone)]
pub struct Purge {
    /// What is dropped from.
    pub cache: Cache,
    /// The broker.
    pub bus: Bus,
    /// Names of queues.
    pub random: Random,
}

impl Actor for Purge {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let shutdown = life.shutdown();
        life.run(self.clone().listen(shutdown));
        Ok(())
    }
}

impl Purge {
    /// Listens until shutdown. Ends when the broker is away, refuses, or ends the consumer.
    async fn listen(self, mut shutdown: Shutdown) -> Result<(), BusError> {
        let connection = self.bus.connect_with_large_frames("gateway.cache").await?;
        let heard = self.hear(&connection, &mut shutdown).await;
        close(&connection).await;
        heard
    }

    async fn hear(&self, connection: &Connection, shutdown: &mut Shutdown) -> Result<(), BusError> {
        let queue = format!("gateway.cache.{}", self.random.uuid_v4());
        let mut changes = self.bus.within(subscribe(connection, &queue)).await?;
        // What changed before is not known.
        self.cache.clear();
        loop {
            let delivery = tokio::select! {
                delivery = changes.next() => delivery,
                () = shutdown.requested() => return Ok(()),
            };
            let delivery = delivery.ok_or_else(|| BusError::Cancelled(queue.clone()))??;
            match cloudevents_amqp::decode(&delivery.properties, &delivery.data) {
                Ok(event) => match event.subject() {
                    Some(account) => self.cache.purge(account),
                    None => self.cache.clear(),
                },
                Err(error) => {
                    warn!(%error, "a change cannot be read; everything is dropped from the cache");
                    self.cache.clear();
                }
            }
        }
    }
}

async fn subscribe(connection: &Connection, queue: &str) -> lapin::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    for ty in [AccountUpdated::TYPE, DELETED] {
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.into(), EVENTS.into(), ty.into(), bind, FieldTable::default()).await?;
    }
    // Dropping something twice does no harm: nothing is acknowledged.
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "cache".into(), options, FieldTable::default()).await
}
