//! The relay actor: leases rows of the outbox, publishes them with pipelined confirms, and writes down what became of them.

use std::{sync::Arc, time::Duration};

use cloudevents::{EventBuilder, EventBuilderV10};
use futures_util::future::join_all;
use lapin::{Channel, Confirmation};
use orrery_schemas::services::Service;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Bus, BusError, connection::mandatory};
use crate::{
    random::Random,
    store::{
        Pool,
        outbox::{self, Row, Settled},
    },
    supervise::Shutdown,
};

/// Rows that are published at once.
const BATCH: i64 = 256;
/// How long a lease lasts; a killed relay's rows are taken up by another after it. Above the confirm's timeout.
const LEASE_SECONDS: i32 = 10;
/// How often the outbox is looked at when nobody wakes the relay.
const POLL: Duration = Duration::from_secs(1);
/// A row that was tried so often without a confirm is waited for in ever longer steps no more: it can never be published.
const MAX_ATTEMPTS: i32 = 1000;

/// Tells the relay that a transaction with rows was committed. Many wakes while it works count as one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes the relay.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Publishes what `producers` wrote.
pub struct Relay {
    /// The broker.
    pub bus: Bus,
    /// A pool whose role may read the outbox.
    pub pool: Pool,
    /// Whose rows.
    pub producer: Service,
    /// How long sent rows are kept.
    pub keep: Duration,
    /// The source of lease tokens.
    pub random: Random,
    /// The bell.
    pub wake: Wake,
    /// When to end.
    pub shutdown: Shutdown,
}

enum Published {
    Sent,
    Unrouted,
    Failed(String),
    Again(String),
}

impl Relay {
    /// Relays until shutdown; the outbox is flushed once more before it ends.
    ///
    /// # Errors
    /// When broker or database go away: the supervisor then builds a new relay.
    pub async fn run(mut self) -> Result<(), BusError> {
        let connection = self.bus.connect(&format!("relay-{}", self.producer)).await?;
        let channel = self.bus.confirming(&connection).await?;
        let mut prune = tokio::time::interval(Duration::from_secs(60));
        loop {
            while self.batch(&channel).await? {}
            tokio::select! {
                () = self.wake.0.notified() => {}
                () = tokio::time::sleep(POLL) => {
                    if !connection.status().connected() {
                        return Err(BusError::Cancelled("relay".to_owned()));
                    }
                }
                _ = prune.tick() => self.prune().await?,
                () = self.shutdown.requested() => {
                    while self.batch(&channel).await? {}
                    connection.close(200, "shutdown".into()).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Publishes one batch; true when there may be more.
    async fn batch(&self, channel: &Channel) -> Result<bool, BusError> {
        let token = self.random.uuid_v4();
        let rows = {
            let mut connection = self.pool.get().await?;
            outbox::lease(&mut connection, &[self.producer.name()], token, LEASE_SECONDS, BATCH).await?
        };
        if rows.is_empty() {
            return Ok(false);
        }
        let more = rows.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
        let results = join_all(rows.iter().map(|row| self.publish(channel, row))).await;
        let mut sent = Vec::new();
        let mut unrouted = Vec::new();
        let mut again = Vec::new();
        let mut reason = String::new();
        let mut connection = self.pool.get().await?;
        for (row, result) in rows.iter().zip(results) {
            match result {
                Published::Sent => sent.push(row.seq),
                Published::Unrouted => {
                    debug!(event = %row.id, ty = row.ty, "no queue is bound for it: kept until one is, or it expires");
                    unrouted.push(row.seq);
                }
                Published::Failed(error) => {
                    warn!(event = %row.id, error, "can never be published");
                    outbox::settle(&mut connection, &[row.seq], Settled::Failed, Some(&error)).await?;
                }
                Published::Again(error) => {
                    again.push(row.seq);
                    reason = error;
                }
            }
        }
        outbox::settle(&mut connection, &sent, Settled::Sent, None).await?;
        outbox::settle(&mut connection, &unrouted, Settled::Unrouted, None).await?;
        outbox::release(&mut connection, &again, token, &reason).await?;
        debug!(sent = sent.len(), unrouted = unrouted.len(), again = again.len(), "relayed");
        if again.is_empty() {
            Ok(more)
        } else {
            warn!(rows = again.len(), reason, "not confirmed, published again");
            // A broker that does not confirm is met with a new connection, after the supervisor's pause.
            Err(BusError::Nacked)
        }
    }

    async fn publish(&self, channel: &Channel, row: &Row) -> Published {
        let encoded = match event(row).and_then(|event| Ok(self.bus.encode(&event)?)) {
            Ok(encoded) => encoded,
            Err(error) => return Published::Failed(error.to_string()),
        };
        if row.routing_key.len() > 255 {
            return Published::Failed("the routing key is longer than 255 bytes".to_owned());
        }
        let publish = async {
            channel
                .basic_publish(
                    row.exchange.as_str().into(),
                    row.routing_key.as_str().into(),
                    mandatory(),
                    &encoded.body,
                    encoded.properties,
                )
                .await?
                .await
        };
        match tokio::time::timeout(self.bus.confirm_timeout(), publish).await {
            Ok(Ok(Confirmation::Ack(None))) => Published::Sent,
            Ok(Ok(Confirmation::Ack(Some(_)))) => Published::Unrouted,
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) if row.attempts >= MAX_ATTEMPTS => {
                Published::Failed("the broker refused it every time".to_owned())
            }
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => {
                Published::Again("the broker refused to keep it".to_owned())
            }
            Ok(Err(error)) => Published::Again(error.to_string()),
            Err(_) => Published::Again("no confirm in time".to_owned()),
        }
    }

    async fn prune(&self) -> Result<(), BusError> {
        let mut connection = self.pool.get().await?;
        let keep = self.keep.as_secs_f64();
        while outbox::prune(&mut connection, &[self.producer.name()], keep, 1000).await? == 1000 {}
        Ok(())
    }
}

fn event(row: &Row) -> Result<cloudevents::Event, BusError> {
    let mut builder = EventBuilderV10::new()
        .id(row.id.to_string())
        .source(&row.source)
        .ty(&row.ty)
        .time(row.time)
        .data("application/json", row.data.clone())
        .extension("expirytime", row.expires_at.to_rfc3339());
    if let Some(subject) = &row.subject {
        builder = builder.subject(subject);
    }
    if let Some(version) = row.version {
        // Extensions hold 32-bit integers; a version is 64 bits wide.
        builder = builder.extension("version", version.to_string());
    }
    if let Some(trace) = &row.traceparent {
        builder = builder.extension("traceparent", trace.as_str());
    }
    builder.build().map_err(|error| BusError::Event(error.to_string()))
}
