//! The inbox: a lease on a message while it is worked on, a mark when its effect is done. All times are the database's.

use diesel::{
    OptionalExtension, QueryableByName,
    sql_types::{Bool, Double, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::StoreError;

/// What a message is known by: one effect per handler, source and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageKey {
    /// The handler's name.
    pub handler: &'static str,
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents id.
    pub id: String,
}

/// The answer to a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours.
    Ours,
    /// Somebody is at work on it.
    Live,
    /// Its effect is done.
    Done,
}

#[derive(QueryableByName)]
struct IsDone {
    #[diesel(sql_type = Bool)]
    done: bool,
}

/// Claims the message under `token` for `lease_seconds`; commits by itself.
///
/// # Errors
/// When the database refuses.
pub async fn claim(
    connection: &mut AsyncPgConnection,
    key: &MessageKey,
    token: Uuid,
    lease_seconds: f64,
) -> Result<Claimed, StoreError> {
    let claimed = diesel::sql_query(
        "INSERT INTO bus.inbox AS inbox (handler, source, id, token, claimed_until) \
         VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) \
         ON CONFLICT (handler, source, id) DO UPDATE \
            SET token = excluded.token, claimed_until = excluded.claimed_until \
            WHERE inbox.done_at IS NULL AND inbox.claimed_until <= now()",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease_seconds)
    .execute(connection)
    .await?;
    if claimed == 1 {
        return Ok(Claimed::Ours);
    }
    let row: Option<IsDone> = diesel::sql_query(
        "SELECT done_at IS NOT NULL AS done FROM bus.inbox WHERE handler = $1 AND source = $2 AND id = $3",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .get_result(connection)
    .await
    .optional()?;
    // A row pruned between the two statements counts as live: the delivery comes again and finds it gone.
    Ok(if row.is_some_and(|row| row.done) { Claimed::Done } else { Claimed::Live })
}

/// Prolongs a claim that is still ours.
///
/// # Errors
/// When the database refuses.
pub async fn renew(
    connection: &mut AsyncPgConnection,
    key: &MessageKey,
    token: Uuid,
    lease_seconds: f64,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = now() + make_interval(secs => $5) \
         WHERE handler = $1 AND source = $2 AND id = $3 AND token = $4 AND done_at IS NULL",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease_seconds)
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks the effect as done in the transaction that makes it.
///
/// # Errors
/// `LeaseLost` when the claim is no longer ours: roll back. When the database refuses.
pub async fn settle(
    connection: &mut AsyncPgConnection,
    key: &MessageKey,
    token: Uuid,
) -> Result<(), StoreError> {
    let marked = diesel::sql_query(
        "UPDATE bus.inbox SET done_at = now() \
         WHERE handler = $1 AND source = $2 AND id = $3 AND token = $4 AND done_at IS NULL",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .bind::<SqlUuid, _>(token)
    .execute(connection)
    .await?;
    if marked == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
}

/// Marks an effect outside the database as done, whoever holds the lease by now: it has happened.
///
/// # Errors
/// When the database refuses.
pub async fn record_done(connection: &mut AsyncPgConnection, key: &MessageKey) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE bus.inbox SET done_at = coalesce(done_at, now()) WHERE handler = $1 AND source = $2 AND id = $3",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the claim back, so that the next delivery need not wait for its end.
///
/// # Errors
/// When the database refuses.
pub async fn release(
    connection: &mut AsyncPgConnection,
    key: &MessageKey,
    token: Uuid,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = now() \
         WHERE handler = $1 AND source = $2 AND id = $3 AND token = $4 AND done_at IS NULL",
    )
    .bind::<Text, _>(key.handler)
    .bind::<Text, _>(&key.source)
    .bind::<Text, _>(&key.id)
    .bind::<SqlUuid, _>(token)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the handler is done with a message of that trace (32 hexadecimal digits).
///
/// # Errors
/// When the database refuses.
pub async fn done_of_trace(
    connection: &mut AsyncPgConnection,
    handler: &str,
    trace: &str,
) -> Result<bool, StoreError> {
    let row: Option<IsDone> = diesel::sql_query(
        "SELECT inbox.done_at IS NOT NULL AS done FROM bus.inbox JOIN bus.outbox ON inbox.id = outbox.id::text \
         WHERE inbox.handler = $1 AND outbox.traceparent LIKE '00-' || $2 || '-%'",
    )
    .bind::<Text, _>(handler)
    .bind::<Text, _>(trace)
    .get_result(connection)
    .await
    .optional()?;
    Ok(row.is_some_and(|row| row.done))
}
