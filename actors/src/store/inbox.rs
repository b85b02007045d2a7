//! The inbox: a lease on a message while it is worked on, a mark when its effect is done. All times are the database's.
//! Statements take many messages of one handler at once; who gathers them is `bus::claims`.

use std::{collections::HashSet, time::Duration};

use diesel::{
    OptionalExtension, QueryableByName,
    sql_types::{Array, Bool, Double, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{Pool, StoreError, prepared::prepared};

/// What a message is known by: one effect per handler, source and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// The handler's name.
    pub handler: &'static str,
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents id.
    pub id: String,
}

/// A claim on a message: while nobody else has another token in its row, it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The message.
    pub key: MessageKey,
    /// What tells this claim from others.
    pub token: Uuid,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Bool)]
    done: bool,
}

#[derive(QueryableByName)]
struct Token {
    #[diesel(sql_type = SqlUuid)]
    token: Uuid,
}

/// The columns of some claims, in the order of the claims.
struct Columns<'a> {
    sources: Vec<&'a str>,
    ids: Vec<&'a str>,
    tokens: Vec<Uuid>,
}

impl<'a> Columns<'a> {
    fn of(claims: &'a [Claim]) -> Self {
        Self {
            sources: claims.iter().map(|claim| claim.key.source.as_str()).collect(),
            ids: claims.iter().map(|claim| claim.key.id.as_str()).collect(),
            tokens: claims.iter().map(|claim| claim.token).collect(),
        }
    }
}

/// Claims messages of `handler`, each of which stands in `claims` once, for `lease_seconds`; commits by itself. The answers are in the
/// order of the claims. Taking over a claim that ended by itself, and was not given back, counts as a doubt: its effect may have happened.
///
/// # Errors
/// When the database refuses; then nothing is claimed.
pub async fn claim(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
    lease_seconds: f64,
) -> Result<Vec<Claimed>, StoreError> {
    let Columns { sources, ids, tokens } = Columns::of(claims);
    // One order for everybody, so that two that claim the same messages wait for each other instead of for ever.
    let ours: Vec<Token> = prepared(
        "INSERT INTO bus.inbox AS inbox (handler, source, id, token, claimed_until) \
         SELECT $1, source, id, token, now() + make_interval(secs => $5) \
           FROM unnest($2, $3, $4) AS new (source, id, token) ORDER BY source, id \
         ON CONFLICT (handler, source, id) DO UPDATE \
            SET token = excluded.token, claimed_until = excluded.claimed_until, \
                doubts = inbox.doubts + CASE WHEN inbox.claimed_until = '-infinity' THEN 0 ELSE 1 END \
            WHERE inbox.done_at IS NULL AND inbox.claimed_until <= now() \
         RETURNING token",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<Text>, _>(&sources)
    .bind::<Array<Text>, _>(&ids)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Double, _>(lease_seconds)
    .load(connection)
    .await?;
    let ours: HashSet<Uuid> = ours.into_iter().map(|row| row.token).collect();
    if ours.len() == claims.len() {
        return Ok(vec![Claimed::Ours; claims.len()]);
    }
    let found: Vec<Found> = prepared(
        "SELECT source, id, coalesce((SELECT done_at IS NOT NULL FROM bus.inbox \
            WHERE handler = $1 AND inbox.source = asked.source AND inbox.id = asked.id), false) AS done \
         FROM unnest($2, $3) AS asked (source, id)",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<Text>, _>(&sources)
    .bind::<Array<Text>, _>(&ids)
    .load(connection)
    .await?;
    let done: HashSet<(&str, &str)> =
        found.iter().filter(|row| row.done).map(|row| (row.source.as_str(), row.id.as_str())).collect();
    Ok(claims
        .iter()
        .map(|Claim { key, token }| {
            if ours.contains(token) {
                Claimed::Ours
            } else if done.contains(&(key.source.as_str(), key.id.as_str())) {
                Claimed::Done
            } else {
                // Also a row pruned between the two statements: the delivery comes again and finds it gone.
                Claimed::Live
            }
        })
        .collect())
}

/// Whether the database takes a claim: it is neither a standby nor out of room.
///
/// # Errors
/// When it does not say so within `limit`, or no connection can be had.
pub async fn is_writable(pool: &Pool, limit: Duration) -> Result<bool, StoreError> {
    let tried = pool.run(|mut connection| async move {
        let probe = connection.transaction(async |connection| {
            prepared(
                "INSERT INTO bus.inbox (handler, source, id, token, claimed_until) \
                 VALUES ('', '', gen_random_uuid()::text, gen_random_uuid(), '-infinity')",
            )
            .execute(connection)
            .await?;
            Err::<(), _>(diesel::result::Error::RollbackTransaction)
        });
        Ok::<_, StoreError>(matches!(probe.await, Err(diesel::result::Error::RollbackTransaction)))
    });
    tokio::time::timeout(limit, tried).await.unwrap_or(Err(StoreError::Silent(limit)))
}

/// Prolongs those claims that are still ours.
///
/// # Errors
/// When the database refuses.
pub async fn renew(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
    lease_seconds: f64,
) -> Result<(), StoreError> {
    let Columns { sources, ids, tokens } = Columns::of(claims);
    // Not kept prepared: the order of its join depends on how large the table is.
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = now() + make_interval(secs => $5) \
         FROM unnest($2, $3, $4) AS held (source, id, token) \
         WHERE inbox.handler = $1 AND inbox.source = held.source AND inbox.id = held.id \
           AND inbox.token = held.token AND inbox.done_at IS NULL",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<Text>, _>(&sources)
    .bind::<Array<Text>, _>(&ids)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Double, _>(lease_seconds)
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks the effect as done in the transaction that makes it.
///
/// # Errors
/// `LeaseLost` when the claim is no longer ours: roll back. When the database refuses.
pub async fn settle(connection: &mut AsyncPgConnection, claim: &Claim) -> Result<(), StoreError> {
    let marked = prepared(
        "UPDATE bus.inbox SET done_at = now() \
         WHERE handler = $1 AND source = $2 AND id = $3 AND token = $4 AND done_at IS NULL",
    )
    .bind::<Text, _>(claim.key.handler)
    .bind::<Text, _>(&claim.key.source)
    .bind::<Text, _>(&claim.key.id)
    .bind::<SqlUuid, _>(claim.token)
    .execute(connection)
    .await?;
    if marked == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
}

/// Marks effects outside the database as done, whoever holds the leases by now: they have happened, even where the claim is not there any more.
///
/// # Errors
/// When the database refuses.
pub async fn record_done(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
) -> Result<(), StoreError> {
    let Columns { sources, ids, tokens } = Columns::of(claims);
    // In one order for everybody, as in `claim`.
    prepared(
        "INSERT INTO bus.inbox AS inbox (handler, source, id, token, claimed_until, done_at) \
         SELECT DISTINCT ON (source, id) $1, source, id, token, now(), now() \
           FROM unnest($2, $3, $4) AS happened (source, id, token) ORDER BY source, id \
         ON CONFLICT (handler, source, id) DO UPDATE SET done_at = coalesce(inbox.done_at, now())",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<Text>, _>(&sources)
    .bind::<Array<Text>, _>(&ids)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives claims back, so that the next deliveries need not wait for their end. A claim given back `in_doubt` is one whose effect may have
/// happened all the same.
///
/// # Errors
/// When the database refuses.
pub async fn release(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
    in_doubt: &[bool],
) -> Result<(), StoreError> {
    let Columns { sources, ids, tokens } = Columns::of(claims);
    let doubts: Vec<i32> = in_doubt.iter().map(|doubt| i32::from(*doubt)).collect();
    // Not kept prepared, as in `renew`.
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = '-infinity', doubts = inbox.doubts + given.doubts \
         FROM unnest($2, $3, $4, $5) AS given (source, id, token, doubts) \
         WHERE inbox.handler = $1 AND inbox.source = given.source AND inbox.id = given.id \
           AND inbox.token = given.token AND inbox.done_at IS NULL",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<Text>, _>(&sources)
    .bind::<Array<Text>, _>(&ids)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Array<Integer>, _>(&doubts)
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
    let row: Option<IsDone> = prepared(
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
