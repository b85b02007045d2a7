//! The outbox: what a transaction wants to be published, and what became of it. Publishing lives in `bus::relay`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    Insertable, QueryableByName,
    sql_types::{Array, BigInt, Int8, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{events::EventData, services::Service, trace::TraceParent};
use serde_json::Value;
use uuid::Uuid;

use super::{StoreError, schema::outbox};
use crate::{bus::topology::EVENTS, clock::Clock, random::Random};

/// Writes rows for one service.
#[derive(Clone)]
pub struct Outbox {
    producer: Service,
    lifetime: Duration,
    clock: Clock,
    random: Random,
}

/// Where a message goes, and whom it concerns.
#[derive(Debug, Clone, Copy, Default)]
pub struct About {
    /// The internal id of the subject.
    pub subject: Option<Uuid>,
    /// The version of the subject's row after the change.
    pub version: Option<i64>,
    /// The trace that the change belongs to.
    pub trace: Option<TraceParent>,
}

#[derive(Insertable)]
#[diesel(table_name = outbox)]
struct NewRow<'a> {
    id: Uuid,
    producer: &'a str,
    source: &'a str,
    ty: &'a str,
    subject: Option<String>,
    version: Option<i64>,
    traceparent: Option<String>,
    time: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    exchange: &'a str,
    routing_key: &'a str,
    data: Value,
}

/// A row to be published.
#[derive(Debug, Clone, QueryableByName)]
pub struct Row {
    /// Its place.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// The CloudEvents id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The CloudEvents source.
    #[diesel(sql_type = Text)]
    pub source: String,
    /// The CloudEvents type.
    #[diesel(sql_type = Text, column_name = "type")]
    pub ty: String,
    /// The CloudEvents subject.
    #[diesel(sql_type = Nullable<Text>)]
    pub subject: Option<String>,
    /// The version of the subject's row.
    #[diesel(sql_type = Nullable<Int8>)]
    pub version: Option<i64>,
    /// The trace.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
    /// When it happened.
    #[diesel(sql_type = Timestamptz)]
    pub time: DateTime<Utc>,
    /// After this nobody wants it.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
    /// The exchange, empty for the default one.
    #[diesel(sql_type = Text)]
    pub exchange: String,
    /// The routing key.
    #[diesel(sql_type = Text)]
    pub routing_key: String,
    /// The data.
    #[diesel(sql_type = Jsonb)]
    pub data: Value,
    /// How often a publish of it was begun, this time included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
}

/// What became of a published row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Confirmed by the broker.
    Sent,
    /// Returned: no queue is bound for it.
    Unrouted,
    /// It can never be published.
    Failed,
}

impl Settled {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Unrouted => "unrouted",
            Self::Failed => "failed",
        }
    }
}

impl Outbox {
    /// Rows of `producer`, wanted for `lifetime`.
    pub fn new(producer: Service, lifetime: Duration, clock: Clock, random: Random) -> Self {
        Self { producer, lifetime, clock, random }
    }

    /// Writes an event for whoever subscribes. Wake the relay after the commit.
    ///
    /// # Errors
    /// When the database refuses, or the data is no JSON.
    pub async fn event<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        data: &T,
        about: About,
    ) -> Result<Uuid, StoreError> {
        self.insert(connection, EVENTS, T::TYPE, data, about).await
    }

    /// Writes a command for the handler that reads `queue`. Wake the relay after the commit.
    ///
    /// # Errors
    /// As `event`.
    pub async fn command<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        queue: &str,
        data: &T,
        about: About,
    ) -> Result<Uuid, StoreError> {
        self.insert(connection, "", queue, data, about).await
    }

    async fn insert<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        exchange: &str,
        routing_key: &str,
        data: &T,
        about: About,
    ) -> Result<Uuid, StoreError> {
        let time = self.clock.now();
        let id = self.random.uuid_v7(&self.clock);
        let row = NewRow {
            id,
            producer: self.producer.name(),
            source: self.producer.source(),
            ty: T::TYPE,
            subject: about.subject.map(|subject| subject.to_string()),
            version: about.version,
            traceparent: about.trace.map(|trace| trace.to_string()),
            time,
            expires_at: time + self.lifetime,
            exchange,
            routing_key,
            data: serde_json::to_value(data).map_err(|error| {
                StoreError::Query(diesel::result::Error::SerializationError(error.into()))
            })?,
        };
        diesel::insert_into(outbox::table).values(row).execute(connection).await?;
        Ok(id)
    }
}

/// Leases up to `limit` pending rows of `producers` for `lease_seconds`, oldest first; rows leased by another relay are skipped.
///
/// # Errors
/// When the database refuses.
pub async fn lease(
    connection: &mut AsyncPgConnection,
    producers: &[&str],
    token: Uuid,
    lease_seconds: i32,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    let mut rows: Vec<Row> = diesel::sql_query(
        "UPDATE bus.outbox SET lease = $1, leased_until = now() + make_interval(secs => $2), attempts = attempts + 1 \
         WHERE seq IN (SELECT seq FROM bus.outbox WHERE status = 'pending' AND producer = ANY($3) AND leased_until < now() \
                       ORDER BY seq LIMIT $4 FOR UPDATE SKIP LOCKED) \
         RETURNING seq, id, source, type, subject, version, traceparent, time, expires_at, exchange, routing_key, data, attempts",
    )
    .bind::<SqlUuid, _>(token)
    .bind::<Integer, _>(lease_seconds)
    .bind::<Array<Text>, _>(producers)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?;
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

/// Marks rows as settled. A row that another relay settled meanwhile stays as it is.
///
/// # Errors
/// When the database refuses.
pub async fn settle(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    how: Settled,
    error: Option<&str>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "UPDATE bus.outbox SET status = $2, settled_at = now(), last_error = $3 \
         WHERE seq = ANY($1) AND status = 'pending'",
    )
    .bind::<Array<BigInt>, _>(rows)
    .bind::<Text, _>(how.name())
    .bind::<Nullable<Text>, _>(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives leased rows back at once, with the error that kept them.
///
/// # Errors
/// When the database refuses.
pub async fn release(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    token: Uuid,
    error: &str,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "UPDATE bus.outbox SET lease = NULL, leased_until = '-infinity', last_error = $3 \
         WHERE seq = ANY($1) AND lease = $2 AND status = 'pending'",
    )
    .bind::<Array<BigInt>, _>(rows)
    .bind::<SqlUuid, _>(token)
    .bind::<Text, _>(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes unrouted rows pending again whose routing key is now bound; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn replay_unrouted(
    connection: &mut AsyncPgConnection,
    routing_keys: &[String],
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "UPDATE bus.outbox SET status = 'pending', settled_at = NULL, attempts = 0, leased_until = '-infinity' \
         WHERE status = 'unrouted' AND routing_key = ANY($1) AND expires_at > now()",
    )
    .bind::<Array<Text>, _>(routing_keys)
    .execute(connection)
    .await?)
}

/// Removes up to `limit` settled rows that are older than they are kept, or past their expiry; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    producers: &[&str],
    keep_seconds: f64,
    limit: i64,
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "DELETE FROM bus.outbox WHERE seq IN (SELECT seq FROM bus.outbox WHERE producer = ANY($1) \
           AND ((status = 'sent' AND settled_at < now() - make_interval(secs => $2)) \
             OR (status = 'unrouted' AND expires_at < now())) LIMIT $3)",
    )
    .bind::<Array<Text>, _>(producers)
    .bind::<diesel::sql_types::Double, _>(keep_seconds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}
