//! What endpoints did not take: events that are to be tried again, and dead letters.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension as _, QueryableByName,
    sql_types::{BigInt, Binary, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_service::GivenUp;
use orrery_store::{StoreError, prepared::prepared};
use uuid::Uuid;

use super::Number;

/// An event that was not taken.
#[derive(Debug, Clone, QueryableByName)]
pub struct Waiting {
    /// Its place in the log.
    #[diesel(sql_type = BigInt)]
    pub position: i64,
    /// Under which it is delivered.
    #[diesel(sql_type = SqlUuid)]
    pub key: Uuid,
    /// Its type.
    #[diesel(sql_type = Text)]
    pub ty: String,
    /// Its subject.
    #[diesel(sql_type = Nullable<Text>)]
    pub subject: Option<String>,
    /// In the JSON format.
    #[diesel(sql_type = Binary)]
    pub event: Vec<u8>,
    /// Tries so far.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// When it was tried first.
    #[diesel(sql_type = Timestamptz)]
    pub first_at: DateTime<Utc>,
    /// When it is tried next.
    #[diesel(sql_type = Timestamptz)]
    pub next_at: DateTime<Utc>,
}

/// A try that failed.
#[derive(Debug, Clone)]
pub struct Failed<'a> {
    /// Whose.
    pub endpoint: Uuid,
    /// Whether it is given up.
    pub is_dead: bool,
    /// Why it failed.
    pub error: &'a str,
    /// What was answered.
    pub status: Option<i32>,
}

/// Keeps an event that was not taken, with its new time.
///
/// # Errors
/// When the database refuses.
pub async fn keep(
    connection: &mut AsyncPgConnection,
    failed: Failed<'_>,
    event: &Waiting,
) -> Result<(), StoreError> {
    prepared(
        "INSERT INTO partners.deliveries (endpoint, position, state, key, type, subject, event, attempts, first_at, next_at, last_error, last_status) \
         VALUES ($1, $2, CASE WHEN $3 THEN 'dead' ELSE 'retry' END, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (endpoint, position) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, next_at = excluded.next_at, \
            last_error = excluded.last_error, last_status = excluded.last_status",
    )
    .bind::<SqlUuid, _>(failed.endpoint)
    .bind::<BigInt, _>(event.position)
    .bind::<Bool, _>(failed.is_dead)
    .bind::<SqlUuid, _>(event.key)
    .bind::<Text, _>(&event.ty)
    .bind::<Nullable<Text>, _>(&event.subject)
    .bind::<Binary, _>(&event.event)
    .bind::<Integer, _>(event.attempts)
    .bind::<Timestamptz, _>(event.first_at)
    .bind::<Timestamptz, _>(event.next_at)
    .bind::<Text, _>(failed.error)
    .bind::<Nullable<Integer>, _>(failed.status)
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct WhenLogged {
    #[diesel(sql_type = Nullable<Timestamptz>)]
    logged_at: Option<DateTime<Utc>>,
}

/// Forgets an event that was taken; returns when it was logged, if the log has it still.
///
/// # Errors
/// When the database refuses.
pub async fn taken(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    position: i64,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let forgotten: Option<WhenLogged> = prepared(
        "DELETE FROM partners.deliveries AS d WHERE endpoint = $1 AND position = $2 \
         RETURNING (SELECT logged_at FROM partners.log AS l WHERE l.position = d.position) AS logged_at",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<BigInt, _>(position)
    .get_result(connection)
    .await
    .optional()?;
    Ok(forgotten.and_then(|row| row.logged_at))
}

/// Events that are to be tried again, without their bytes, the next one first. There are at most as many as the endpoint's window, and what was replayed.
///
/// # Errors
/// When the database refuses.
pub async fn waiting(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    limit: i64,
) -> Result<Vec<Waiting>, StoreError> {
    Ok(prepared(
        "SELECT position, key, type AS ty, subject, ''::bytea AS event, attempts, first_at, next_at FROM partners.deliveries \
         WHERE endpoint = $1 AND state = 'retry' ORDER BY next_at, position LIMIT $2",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

#[derive(QueryableByName)]
struct Bytes {
    #[diesel(sql_type = Binary)]
    event: Vec<u8>,
}

/// The bytes of one that waits.
///
/// # Errors
/// When the database refuses.
pub async fn event(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    position: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let found: Option<Bytes> = prepared(
        "SELECT event FROM partners.deliveries WHERE endpoint = $1 AND position = $2 AND state = 'retry'",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<BigInt, _>(position)
    .get_result(connection)
    .await
    .optional()?;
    Ok(found.map(|row| row.event))
}

/// How many wait.
///
/// # Errors
/// When the database refuses.
pub async fn count(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    state: &str,
) -> Result<i64, StoreError> {
    let count: Number = diesel::sql_query(
        "SELECT count(*) AS number FROM partners.deliveries WHERE endpoint = $1 AND state = $2",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<Text, _>(state)
    .get_result(connection)
    .await?;
    Ok(count.number)
}

/// What waits is tried now: the endpoint takes again.
///
/// # Errors
/// When the database refuses.
pub async fn hasten(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    prepared("UPDATE partners.deliveries SET next_at = $2 WHERE endpoint = $1 AND state = 'retry' AND next_at > $2")
        .bind::<SqlUuid, _>(endpoint)
        .bind::<Timestamptz, _>(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// The dead letters of an endpoint after a position.
///
/// # Errors
/// When the database refuses.
pub async fn dead(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<GivenUp>, StoreError> {
    Ok(diesel::sql_query(
        "SELECT position, key AS webhook_id, type AS ty, attempts, first_at, next_at AS dead_at, last_error, last_status FROM partners.deliveries \
         WHERE endpoint = $1 AND state = 'dead' AND position > $2 ORDER BY position LIMIT $3",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// Which dead letters are replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Which {
    /// Only this one.
    pub position: Option<i64>,
    /// Only those that were tried first at or after it.
    pub from: Option<DateTime<Utc>>,
    /// Only those that were tried first before it.
    pub until: Option<DateTime<Utc>>,
}

/// Has dead letters tried again, as if never before; their worker hears of it. Returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn replay(
    connection: &mut AsyncPgConnection,
    endpoint: Uuid,
    which: Which,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let replayed = diesel::sql_query(
        "UPDATE partners.deliveries SET state = 'retry', attempts = 0, first_at = $5, next_at = $5 WHERE endpoint = $1 AND state = 'dead' \
         AND ($2 IS NULL OR position = $2) AND ($3 IS NULL OR first_at >= $3) AND ($4 IS NULL OR first_at < $4)",
    )
    .bind::<SqlUuid, _>(endpoint)
    .bind::<Nullable<BigInt>, _>(which.position)
    .bind::<Nullable<Timestamptz>, _>(which.from)
    .bind::<Nullable<Timestamptz>, _>(which.until)
    .bind::<Timestamptz, _>(now)
    .execute(connection)
    .await?;
    diesel::sql_query("UPDATE partners.endpoints SET version = version + 1 WHERE id = $1")
        .bind::<SqlUuid, _>(endpoint)
        .execute(connection)
        .await?;
    Ok(replayed)
}

/// Removes dead letters that are older than `keep_seconds`.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    keep_seconds: f64,
    limit: i64,
) -> Result<usize, StoreError> {
    Ok(prepared(
        "DELETE FROM partners.deliveries WHERE ctid = ANY(ARRAY(SELECT ctid FROM partners.deliveries \
         WHERE state = 'dead' AND next_at < now() - make_interval(secs => $1) ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}
