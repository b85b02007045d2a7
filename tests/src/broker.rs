//! A virtual host per test, and what tests do on it directly, past the proxy. Declares no queue and no exchange:
//! that is `orrery migrate`'s work.

mod left;
mod vhost;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use reqwest::Url;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::deadline::eventually;
use crate::{environment, fresh, teardown};

/// The headers of an event in binary mode, as anybody may write them.
#[must_use]
pub fn event_headers(id: &str, source: &str, ty: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in [("specversion", "1.0"), ("id", id), ("source", source), ("type", ty)] {
        headers.insert(format!("cloudEvents_{name}").into(), AMQPValue::LongString(value.into()));
    }
    headers
}

/// A virtual host of the test's own; dropping it deletes it with all its queues.
pub struct Broker {
    url: Url,
    management: Option<Url>,
    vhost: String,
    connection: Mutex<Option<Connection>>,
    users: std::sync::Mutex<BTreeSet<String>>,
}

/// What a passive declare tells of a queue; messages that a consumer holds are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer.
    pub ready: u32,
    /// Consumers of the queue.
    pub consumers: u32,
}

/// A message that was taken from a queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// The body.
    pub body: Bytes,
    /// The headers; a byte string becomes text, what JSON cannot say becomes null.
    pub headers: Map<String, Value>,
    /// All properties as they came.
    pub properties: BasicProperties,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The key that it was published with.
    pub routing_key: String,
    /// Whether it had been delivered before.
    pub redelivered: bool,
}

impl Message {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("reading a message's body")
    }
}

impl Broker {
    /// Makes a virtual host on the broker that `TEST_AMQP_URL` names, by the API at `TEST_AMQP_MANAGEMENT_URL`, or by
    /// `rabbitmqctl` where that is not set.
    ///
    /// # Errors
    /// `TEST_AMQP_URL` is missing, or the broker refuses.
    pub async fn create() -> Result<Self> {
        let (broker, management) = ("TEST_AMQP_URL", "TEST_AMQP_MANAGEMENT_URL");
        Self::create_on(&environment::url(broker)?, environment::optional_url(management)?).await
    }

    /// The same on another broker, with the management API that goes with it.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create_on(broker: &Url, management: Option<Url>) -> Result<Self> {
        let mut url = broker.clone();
        let vhost = format!("orrery-test-{}", fresh::uuid().simple());
        url.set_path(&vhost);
        // Built first: should the permissions be refused, its Drop deletes the host again.
        let users = std::sync::Mutex::default();
        let broker = Self { url, management, vhost, connection: Mutex::new(None), users };
        vhost::create(broker.management.as_ref(), &broker.vhost, broker.url.username()).await?;
        Ok(broker)
    }

    /// The virtual host's name.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The URL that leads to it directly.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL that leads there as another user, who is deleted with this host: users belong to the whole broker, so it
    /// must have a name that no other test uses.
    ///
    /// # Errors
    /// The URL cannot be changed.
    pub fn url_as(&self, user: &str, password: &str) -> Result<String> {
        let mut url = self.url.clone();
        if url.set_username(user).is_err() || url.set_password(Some(password)).is_err() {
            bail!("a URL without a user")
        }
        self.users.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned());
        Ok(url.into())
    }

    /// The broker's address, for a proxy to stand before.
    ///
    /// # Errors
    /// Its name does not resolve.
    pub async fn address(&self) -> Result<SocketAddr> {
        environment::address(&self.url, 5672).await
    }

    /// The URL that leads to it through a proxy.
    ///
    /// # Errors
    /// The URL cannot be changed.
    pub fn url_through(&self, proxy: SocketAddr) -> Result<String> {
        Ok(environment::through(&self.url, proxy)?.into())
    }

    /// What waits in a queue and who reads it, now (the management API lags 5 s).
    ///
    /// # Errors
    /// There is no such queue, or no broker.
    pub async fn depth(&self, queue: &str) -> Result<Depth> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(name(queue)?, options, FieldTable::default()).await;
        let found = found.with_context(|| format!("asking for queue {queue}"))?;
        let depth = Depth { ready: found.message_count(), consumers: found.consumer_count() };
        channel.close(200, name("done")?).await?;
        Ok(depth)
    }

    /// Publishes a message as it is, mandatory and confirmed.
    ///
    /// # Errors
    /// No queue took it, or the broker did not confirm.
    pub async fn publish_raw(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel
            .basic_publish(name(exchange)?, name(routing_key)?, options, body, properties)
            .await?
            .await
            .with_context(|| format!("publishing to {exchange:?} with {routing_key:?}"))?;
        channel.close(200, name("done")?).await?;
        match confirm {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => bail!("no queue took the message to {exchange:?}, {routing_key:?}"),
            other => bail!("the message to {exchange:?}, {routing_key:?} was not confirmed: {other:?}"),
        }
    }

    /// Takes the first message out of a queue and acknowledges it.
    ///
    /// # Errors
    /// There is no such queue, or no broker.
    pub async fn get_one(&self, queue: &str) -> Result<Option<Message>> {
        let channel = self.channel().await?;
        let got = channel.basic_get(name(queue)?, BasicGetOptions { no_ack: true }).await;
        let got = got.with_context(|| format!("getting from {queue}"))?;
        let message = got.map(|got| {
            let delivery = got.delivery;
            let headers = delivery.properties.headers().as_ref().map(table).unwrap_or_default();
            Message {
                body: delivery.data.into(),
                headers,
                properties: delivery.properties,
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                redelivered: delivery.redelivered,
            }
        });
        channel.close(200, name("done")?).await?;
        Ok(message)
    }

    /// Waits until a queue's depth fulfils `condition`.
    ///
    /// # Errors
    /// It does not within `deadline`; the error names the last depth or why there was none.
    pub async fn wait_depth(
        &self,
        queue: &str,
        deadline: Duration,
        condition: impl Fn(Depth) -> bool,
    ) -> Result<()> {
        let mut last = None;
        let waited = eventually(deadline, &format!("queue {queue}"), async || {
            let depth = self.depth(queue).await;
            let fulfilled = depth.as_ref().is_ok_and(|depth| condition(*depth));
            last = Some(depth);
            fulfilled.then_some(())
        })
        .await;
        waited.with_context(|| format!("the last look at {queue} gave {last:?}"))
    }

    /// Throws away what is ready in a queue and says how many messages that were.
    ///
    /// # Errors
    /// There is no such queue, or no broker.
    pub async fn purge(&self, queue: &str) -> Result<u32> {
        let channel = self.channel().await?;
        let count = channel.queue_purge(name(queue)?, QueuePurgeOptions::default()).await?;
        channel.close(200, name("done")?).await?;
        Ok(count)
    }

    /// A fresh channel, since a refused operation closes the one it came on; for tests that need more than the above.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn channel(&self) -> Result<Channel> {
        let mut slot = self.connection.lock().await;
        let connection = match slot.take().filter(|connection| connection.status().connected()) {
            Some(connection) => connection,
            None => Connection::connect(self.url(), ConnectionProperties::default())
                .await
                .context("connecting to the test's virtual host")?,
        };
        let channel = connection.create_channel().await.context("opening a channel")?;
        *slot = Some(connection);
        Ok(channel)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Broker").field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (management, vhost) = (self.management.clone(), self.vhost.clone());
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        teardown::finish(&format!("virtual host {vhost}"), async move {
            vhost::delete(management.as_ref(), &vhost).await?;
            for user in users {
                vhost::delete_user(management.as_ref(), &user).await?;
            }
            Ok(())
        });
    }
}

fn name(text: &str) -> Result<ShortString> {
    ShortString::try_new(text).with_context(|| format!("{text:?} is too long for AMQP"))
}

fn table(table: &FieldTable) -> Map<String, Value> {
    table.inner().iter().map(|(key, value)| (key.to_string(), json(value))).collect()
}

fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::LongString(value) => value.to_string().into(),
        AMQPValue::ByteArray(value) => String::from_utf8_lossy(value.as_slice()).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(values) => table(values).into(),
        AMQPValue::DecimalValue(_) | AMQPValue::Void => Value::Null,
    }
}
