//! The bare loops: what lapin and PostgreSQL give without us, each from its connection's opening to its closing. They do no
//! more than they must: no decoding, no span, no other outcome than success.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use diesel::ExpressionMethods;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm};
use orrery_tests::fresh;
use tokio::sync::Mutex;

use super::messages::Message;
use super::{CONNECTIONS, PREFETCH, QUEUE};

/// Deliveries that are acknowledged at once.
const BATCH: usize = 64;

/// The table of [`consume_with_rows`].
pub const TABLE: &str =
    "CREATE TABLE bench_rows (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";

diesel::table! {
    bench_rows (id) {
        id -> Uuid,
    }
}

/// Publishes all with confirms, at most `window` of them unanswered.
///
/// # Errors
/// The broker fails, or does not confirm one.
pub async fn publish(url: &str, messages: &[Message], window: usize) -> Result<Duration> {
    let start = Instant::now();
    let (connection, channel) = open(url).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut unanswered = VecDeque::with_capacity(window);
    for message in messages {
        if unanswered.len() == window {
            confirmed(unanswered.pop_front()).await?;
        }
        let properties = message.properties.clone();
        let publish = channel.basic_publish("".into(), QUEUE.into(), options, &message.body, properties);
        unanswered.push_back(publish.await?);
    }
    while !unanswered.is_empty() {
        confirmed(unanswered.pop_front()).await?;
    }
    connection.close(200, "".into()).await?;
    Ok(start.elapsed())
}

async fn confirmed(confirm: Option<PublisherConfirm>) -> Result<()> {
    let answer = confirm.context("nothing is unanswered")?.await?;
    ensure!(answer == Confirmation::Ack(None), "not confirmed: {answer:?}");
    Ok(())
}

/// Takes `count` messages, acknowledged in batches.
///
/// # Errors
/// The broker fails.
pub async fn consume(url: &str, count: usize) -> Result<Duration> {
    let start = Instant::now();
    let (connection, channel) = open(url).await?;
    let mut deliveries = subscribe(&channel).await?;
    for number in 1..=count {
        let delivery = deliveries.next().await.context("the consumer ended")??;
        if number % BATCH == 0 || number == count {
            delivery.acker.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    connection.close(200, "".into()).await?;
    Ok(start.elapsed())
}

/// Takes `count` messages and commits one inserted row for each before it is acknowledged, on as many connections as a
/// service of ours has.
///
/// # Errors
/// Broker or database fail.
pub async fn consume_with_rows(url: &str, database: &str, count: usize) -> Result<Duration> {
    let rows = try_join_all((0..CONNECTIONS).map(|_| AsyncPgConnection::establish(database))).await?;
    let start = Instant::now();
    let (connection, channel) = open(url).await?;
    let deliveries = Mutex::new(subscribe(&channel).await?);
    let left = AtomicUsize::new(count);
    let workers = rows.into_iter().map(|mut row| {
        let (deliveries, left) = (&deliveries, &left);
        async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let delivery = deliveries.lock().await.next().await.context("the consumer ended")??;
                let insert = diesel::insert_into(bench_rows::table).values(bench_rows::id.eq(fresh::uuid()));
                insert.execute(&mut row).await?;
                delivery.acker.ack(BasicAckOptions::default()).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(workers).await?;
    connection.close(200, "".into()).await?;
    Ok(start.elapsed())
}

async fn open(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn subscribe(channel: &Channel) -> Result<Consumer> {
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    Ok(channel.basic_consume(QUEUE.into(), "bare".into(), options, arguments).await?)
}
