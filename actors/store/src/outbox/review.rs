//! What an operator asks of the outbox: rows that wait for a decision, and rows to be published again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::topology::pattern;
use serde::Serialize;
use uuid::Uuid;

use crate::StoreError;

/// As if it had never been tried.
const AGAIN: &str = "status = 'pending', settled_at = NULL, attempts = 0, refusals = 0, suspicion = 0, retry_at = NULL, last_error = NULL, \
                     lease = NULL, leased_until = '-infinity'";

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A queue should have been bound for them and none was, and they have not expired.
    Unrouted,
    /// Nobody was meant to get them, and they have not expired.
    Unwanted,
    /// They could not be published.
    Failed,
    /// Sent within this time.
    SentSince(Duration),
}

impl Which {
    /// Its condition at the moment `$1`: what is published again afterwards is not met again.
    fn condition(self) -> String {
        match self {
            Self::Unrouted => "status = 'unrouted' AND expires_at > $1 AND settled_at <= $1".to_owned(),
            Self::Unwanted => "status = 'unwanted' AND expires_at > $1 AND settled_at <= $1".to_owned(),
            Self::Failed => "status = 'failed' AND settled_at <= $1".to_owned(),
            // A command that is a dead letter by now waits for an operator: sent again it would fail again.
            Self::SentSince(since) => format!(
                "status = 'sent' AND settled_at > $1 - make_interval(secs => {}) AND settled_at <= $1 \
                 AND NOT (exchange = '' AND EXISTS (SELECT FROM bus.dead_letters \
                     WHERE inbox_key = bus.inbox_key(outbox.routing_key, outbox.source, outbox.id::text)))",
                since.as_secs_f64()
            ),
        }
    }

    /// What else changes when they are published again. What was never sent is news still, however long it lay; what was sent keeps its end,
    /// since inboxes remember it no longer than that.
    fn renewal(self) -> &'static str {
        match self {
            Self::Failed => ", expires_at = greatest(expires_at, now() + make_interval(secs => $4))",
            Self::Unrouted | Self::Unwanted | Self::SentSince(_) => {
                ", expires_at = expires_at + make_interval(secs => 0 * $4)"
            }
        }
    }
}

/// A row as an operator sees it: nothing of what it tells.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Listed {
    /// The CloudEvents id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Who wrote it.
    #[diesel(sql_type = Text)]
    pub producer: String,
    /// The CloudEvents type.
    #[diesel(sql_type = Text, column_name = "type")]
    #[serde(rename = "type")]
    pub ty: String,
    /// Where it goes.
    #[diesel(sql_type = Text)]
    pub routing_key: String,
    /// When it happened.
    #[diesel(sql_type = Timestamptz)]
    pub time: DateTime<Utc>,
    /// After this nobody wants it.
    #[diesel(sql_type = Timestamptz)]
    pub expires_at: DateTime<Utc>,
    /// How often a publish of it was begun.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// What kept it.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_error: Option<String>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Text)]
    routing_key: String,
}

#[derive(QueryableByName)]
struct Moment {
    #[diesel(sql_type = Timestamptz)]
    value: DateTime<Utc>,
}

/// The database's time.
///
/// # Errors
/// When the database refuses.
pub async fn now(connection: &mut AsyncPgConnection) -> Result<DateTime<Utc>, StoreError> {
    let moment: Moment = diesel::sql_query("SELECT now() AS value").get_result(connection).await?;
    Ok(moment.value)
}

/// Up to `limit` rows as they are at `moment`, of one type if one is named.
///
/// # Errors
/// When the database refuses.
pub async fn list(
    connection: &mut AsyncPgConnection,
    which: Which,
    ty: Option<&str>,
    moment: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Listed>, StoreError> {
    Ok(diesel::sql_query(format!(
        "SELECT id, producer, type, routing_key, time, expires_at, attempts, last_error FROM bus.outbox AS outbox \
         WHERE {} AND type = coalesce($2, type) ORDER BY settled_at LIMIT $3",
        which.condition()
    ))
    .bind::<Timestamptz, _>(moment)
    .bind::<Nullable<Text>, _>(ty)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// How many rows there are at `moment`.
///
/// # Errors
/// When the database refuses.
pub async fn count(
    connection: &mut AsyncPgConnection,
    which: Which,
    ty: Option<&str>,
    moment: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let count: Count = diesel::sql_query(format!(
        "SELECT count(*) AS value FROM bus.outbox WHERE {} AND type = coalesce($2, type)",
        which.condition()
    ))
    .bind::<Timestamptz, _>(moment)
    .bind::<Nullable<Text>, _>(ty)
    .get_result(connection)
    .await?;
    Ok(count.value)
}

/// Makes up to `limit` of the rows at `moment` pending again, with a fresh count; returns how many. A relay finds them within a second.
/// Those that had failed are wanted for `lifetime` from now.
///
/// # Errors
/// When the database refuses.
pub async fn replay(
    connection: &mut AsyncPgConnection,
    which: Which,
    ty: Option<&str>,
    moment: DateTime<Utc>,
    limit: i64,
    lifetime: Duration,
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(format!(
        "UPDATE bus.outbox SET {AGAIN}{} WHERE seq IN (SELECT seq FROM bus.outbox \
         WHERE {} AND type = coalesce($2, type) ORDER BY settled_at LIMIT $3 FOR UPDATE)",
        which.renewal(),
        which.condition()
    ))
    .bind::<Timestamptz, _>(moment)
    .bind::<Nullable<Text>, _>(ty)
    .bind::<BigInt, _>(limit)
    .bind::<Double, _>(lifetime.as_secs_f64())
    .execute(connection)
    .await?)
}

/// Keeps up to `limit` of the failed rows at `moment` no longer: from now on nobody wants them, and they are pruned as such; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn give_up(
    connection: &mut AsyncPgConnection,
    ty: Option<&str>,
    moment: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(format!(
        "UPDATE bus.outbox SET status = 'unwanted', settled_at = now(), expires_at = now() WHERE seq IN (SELECT seq FROM bus.outbox \
         WHERE {} AND type = coalesce($2, type) ORDER BY settled_at LIMIT $3 FOR UPDATE)",
        Which::Failed.condition()
    ))
    .bind::<Timestamptz, _>(moment)
    .bind::<Nullable<Text>, _>(ty)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}

/// Makes unrouted and unwanted rows pending again whose routing key fits one of `patterns`, to which queues are now bound; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn replay_unrouted(
    connection: &mut AsyncPgConnection,
    patterns: &[String],
) -> Result<usize, StoreError> {
    let keys: Vec<Key> = diesel::sql_query(
        "SELECT DISTINCT routing_key FROM bus.outbox WHERE status IN ('unrouted', 'unwanted') AND expires_at > now()",
    )
    .load(connection)
    .await?;
    let keys: Vec<String> = keys
        .into_iter()
        .map(|key| key.routing_key)
        .filter(|key| patterns.iter().any(|pattern| pattern::overlap(pattern, key)))
        .collect();
    Ok(diesel::sql_query(format!(
        "UPDATE bus.outbox SET {AGAIN} WHERE status IN ('unrouted', 'unwanted') AND routing_key = ANY($1) AND expires_at > now()"
    ))
    .bind::<Array<Text>, _>(keys)
    .execute(connection)
    .await?)
}

#[derive(QueryableByName)]
struct Pattern {
    #[diesel(sql_type = Text)]
    pattern: String,
}

/// Writes down the names of all handlers and of bridges' queues, beside those that were there: rows of their inboxes may be.
///
/// # Errors
/// When the database refuses.
pub async fn know_handlers(connection: &mut AsyncPgConnection, names: &[&str]) -> Result<(), StoreError> {
    diesel::sql_query("INSERT INTO bus.handlers SELECT DISTINCT unnest($1) ON CONFLICT DO NOTHING")
        .bind::<Array<Text>, _>(names)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes down the patterns of what somebody is meant to get, in place of the former ones.
///
/// # Errors
/// When the database refuses.
pub async fn want(connection: &mut AsyncPgConnection, patterns: &[String]) -> Result<(), StoreError> {
    diesel::sql_query(
        "WITH former AS (DELETE FROM bus.wanted WHERE pattern <> ALL($1)) \
         INSERT INTO bus.wanted SELECT DISTINCT unnest($1) ON CONFLICT DO NOTHING",
    )
    .bind::<Array<Text>, _>(patterns)
    .execute(connection)
    .await?;
    Ok(())
}

/// The patterns of what somebody is meant to get: an event that fits none of them, and that no queue took, is no loss.
///
/// # Errors
/// When the database refuses.
pub async fn wanted(connection: &mut AsyncPgConnection) -> Result<Vec<String>, StoreError> {
    let rows: Vec<Pattern> = diesel::sql_query("SELECT pattern FROM bus.wanted").load(connection).await?;
    Ok(rows.into_iter().map(|row| row.pattern).collect())
}
