//! The actor that keeps the way between replicas open: it tells what is new here, hears what is new elsewhere, and of sessions that ended. When its
//! connection ends it is started again, and tells and asks for everything.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};
use orrery_bus::{Bus, BusError, connection::close};
use orrery_schemas::{
    events::{EventData, SessionsEnded},
    topology::EVENTS,
};
use orrery_supervise::{Actor, ActorError, Life, Shutdown, random::Random};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{Envelope, Link, Said};
use crate::presence::{Presence, ReplicaId, Told};

/// The exchange; it goes with the last queue that is bound to it.
const EXCHANGE: &str = "discovery.peers";
/// What is for all.
const ALL: &str = "all";
/// The longest queue of a replica: what it did not read by then is told again.
const MOST_WAITING: i64 = 100_000;
/// How many peers are told in one message; each may name some thousand others.
const PEERS: usize = 50;
/// How often others hear that it is alive: several times in the time after which it counts as gone.
const BEATS: u32 = 5;
/// How this is bound to what it is said for, when it is sealed.
const OWNER: &str = "link";

/// Keeps the way open.
#[derive(Clone)]
pub struct LinkActor {
    /// This process.
    pub replica: ReplicaId,
    /// What waits to be sent.
    pub link: Link,
    /// Who is online.
    pub presence: Presence,
    /// The broker.
    pub bus: Bus,
    /// Names of queues.
    pub random: Random,
    /// After how much silence a replica is gone.
    pub replica_timeout: Duration,
}

impl Actor for LinkActor {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let shutdown = life.shutdown();
        life.run(self.clone().serve(shutdown));
        Ok(())
    }
}

/// States that have not come whole yet.
type Parts = HashMap<ReplicaId, Vec<Told>>;

impl LinkActor {
    /// Serves until the shutdown. Ends when the broker is away, refuses, or ends the consumer.
    async fn serve(self, mut shutdown: Shutdown) -> Result<(), BusError> {
        let connection = self.bus.connect_with_large_frames("discovery.link").await?;
        let served = self.talk(&connection, &mut shutdown).await;
        close(&connection).await;
        served
    }

    async fn talk(&self, connection: &Connection, shutdown: &mut Shutdown) -> Result<(), BusError> {
        let queue = format!("discovery.replica.{}", self.random.uuid_v4());
        let (channel, mut heard) = self.bus.within(self.subscribe(connection, &queue)).await?;
        self.link.queue.clear();
        self.tell(&channel, None, vec![Said::Hello]).await?;
        self.tell_everything(&channel, None).await?;
        let mut beat = interval(self.replica_timeout / BEATS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut parts = Parts::new();
        loop {
            tokio::select! {
                delivery = heard.next() => {
                    let delivery = delivery.ok_or_else(|| BusError::Cancelled(queue.clone()))??;
                    self.hear(&channel, &delivery, &mut parts).await?;
                }
                () = self.presence.news() => self.tell_news(&channel).await?,
                () = self.link.queue.ready() => {
                    while let Some((to, said)) = self.link.queue.take() {
                        self.tell(&channel, to, said).await?;
                    }
                }
                _ = beat.tick() => {
                    let sequence = self.presence.lock().sequence();
                    self.tell(&channel, None, vec![Said::Alive { sequence }]).await?;
                }
                () = shutdown.requested() => break,
            }
        }
        self.tell(&channel, None, vec![Said::Bye]).await
    }

    async fn subscribe(&self, connection: &Connection, queue: &str) -> lapin::Result<(Channel, Consumer)> {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, options, FieldTable::default())
            .await?;
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MOST_WAITING));
        arguments.insert("x-overflow".into(), AMQPValue::LongString(LongString::from("drop-head")));
        channel.queue_declare(queue.into(), options, arguments).await?;
        let own = self.replica.0.to_string();
        for (exchange, key) in [(EXCHANGE, ALL), (EXCHANGE, own.as_str()), (EVENTS, SessionsEnded::TYPE)] {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default())
                .await?;
        }
        // What comes twice or not at all does no harm: nothing is acknowledged.
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let heard =
            channel.basic_consume(queue.into(), "peers".into(), options, FieldTable::default()).await?;
        Ok((channel, heard))
    }

    /// Publishes without waiting for a confirm: nothing depends on it.
    async fn tell(&self, channel: &Channel, to: Option<ReplicaId>, said: Vec<Said>) -> Result<(), BusError> {
        let envelope = Envelope { from: self.replica, said };
        let sealed = serde_json::to_vec(&envelope)
            .map_err(|error| error.to_string())
            .and_then(|plain| self.link.sealer.seal(&plain, OWNER).map_err(|error| error.to_string()));
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                warn!(error, "what other replicas should be told cannot be sealed");
                return Ok(());
            }
        };
        let key = to.map_or_else(|| ALL.to_owned(), |replica| replica.0.to_string());
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        // The confirm is not asked for, so that there is nothing to wait for.
        let _unconfirmed = channel
            .basic_publish(EXCHANGE.into(), key.as_str().into(), options, sealed.as_bytes(), properties)
            .await?;
        Ok(())
    }

    async fn tell_news(&self, channel: &Channel) -> Result<(), BusError> {
        let Some((joins, leaves, sequence)) = self.presence.lock().take_news() else { return Ok(()) };
        if joins.len() > PEERS {
            return self.tell_everything(channel, None).await;
        }
        self.tell(channel, None, vec![Said::News { joins, leaves, sequence }]).await
    }

    async fn tell_everything(&self, channel: &Channel, to: Option<ReplicaId>) -> Result<(), BusError> {
        let (mut peers, sequence) = self.presence.lock().everything();
        loop {
            let rest = peers.split_off(peers.len().min(PEERS));
            let complete = rest.is_empty();
            self.tell(channel, to, vec![Said::State { peers, sequence, complete }]).await?;
            if complete {
                return Ok(());
            }
            peers = rest;
        }
    }

    async fn hear(
        &self,
        channel: &Channel,
        delivery: &lapin::message::Delivery,
        parts: &mut Parts,
    ) -> Result<(), BusError> {
        if delivery.exchange.as_str() == EVENTS {
            self.sessions_ended(delivery);
            return Ok(());
        }
        let opened = std::str::from_utf8(&delivery.data)
            .ok()
            .and_then(|sealed| self.link.sealer.open(sealed, OWNER).ok())
            .and_then(|plain| serde_json::from_slice::<Envelope>(&plain).ok());
        let Some(Envelope { from, said }) = opened else {
            // Another version, or another key: its peers are not seen here.
            warn!("what another replica tells cannot be read: is keys.discovery the same everywhere?");
            return Ok(());
        };
        if from == self.replica {
            return Ok(());
        }
        for said in said {
            self.heard(channel, from, said, parts).await?;
        }
        Ok(())
    }

    async fn heard(
        &self,
        channel: &Channel,
        from: ReplicaId,
        said: Said,
        parts: &mut Parts,
    ) -> Result<(), BusError> {
        let knows_all = match said {
            Said::Hello => {
                self.tell_everything(channel, Some(from)).await?;
                true
            }
            Said::State { mut peers, sequence, complete } => {
                let whole = parts.entry(from).or_default();
                whole.append(&mut peers);
                if complete {
                    let whole = parts.remove(&from).unwrap_or_default();
                    self.presence.lock().replica_state(from, whole, sequence);
                }
                true
            }
            Said::News { joins, leaves, sequence } => {
                self.presence.lock().replica_news(from, joins, leaves, sequence)
            }
            Said::Alive { sequence } => self.presence.lock().replica_alive(from, sequence),
            Said::Bye => {
                parts.remove(&from);
                self.presence.lock().replica_gone(from);
                true
            }
            Said::Forward { name, event, payload } => {
                // Where else it has sockets, the sender has told there itself.
                let _elsewhere = self.presence.lock().forward(&name, &event, &payload);
                true
            }
            Said::Wake { name } => {
                let _elsewhere = self.presence.lock().wake(&name);
                true
            }
            Said::Changed { name } => {
                self.presence.mark_stale(&name);
                true
            }
        };
        if !knows_all {
            self.tell(channel, Some(from), vec![Said::Hello]).await?;
        }
        Ok(())
    }

    fn sessions_ended(&self, delivery: &lapin::message::Delivery) {
        // The body of an event in binary mode is its data.
        match serde_json::from_slice::<SessionsEnded>(&delivery.data) {
            Ok(ended) => self.presence.lock().end_sessions(&ended.sessions),
            Err(_) => warn!("the end of sessions cannot be read; the sweep finds it"),
        }
    }
}
