//! The inbox: a lease on a message while it is worked on, a mark when its effect is done. All times are the database's.
//! Statements take many messages of one handler at once; who gathers them is `orrery_bus::claims`.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use diesel::{
    QueryableByName,
    sql_types::{Array, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid},
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

/// Milliseconds of a week, by which rows are kept and dropped together.
const WEEK_MILLIS: u64 = 7 * 24 * 3600 * 1000;

impl MessageKey {
    /// What its row is known by, whatever was sent as source and id: the first 16 bytes of a SHA-256 of all three.
    pub fn digest(&self) -> Uuid {
        digest(self.handler, &self.source, &self.id)
    }

    /// The week whose rows lie together (since 1970): that of a UUIDv7's own time, which is the same whenever the message comes. -1 where the id tells none.
    pub fn week(&self) -> i32 {
        // Only as we write them: another spelling is another id.
        let id = Uuid::try_parse(&self.id).ok().filter(|id| {
            id.get_version_num() == 7
                && id.get_variant() == uuid::Variant::RFC4122
                && *id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *self.id
        });
        let millis = id.map(|id| id.as_u128() >> 80).and_then(|millis| u64::try_from(millis).ok());
        millis.and_then(|millis| i32::try_from(millis / WEEK_MILLIS).ok()).unwrap_or(-1)
    }
}

/// The same for a handler that is known by its name only.
pub fn digest(handler: &str, source: &str, id: &str) -> Uuid {
    let mut context = Context::new(&SHA256);
    for part in [handler, "\0", source, "\0", id] {
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let half = digest.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    Uuid::from_bytes(half)
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
    /// Its last try was a doubt, and nobody has redriven it since.
    GivenUp,
}

/// How a claim is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The effect did not happen.
    Untouched,
    /// It may have happened.
    InDoubt,
    /// It may have happened, and is not tried again: the message becomes a dead letter.
    GivenUp,
}

impl Release {
    /// After a try that may have had its effect, or did not, and that was the last one, or not.
    pub const fn after(in_doubt: bool, is_last: bool) -> Self {
        match (in_doubt, is_last) {
            (false, _) => Self::Untouched,
            (true, false) => Self::InDoubt,
            (true, true) => Self::GivenUp,
        }
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    key: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
}

#[derive(QueryableByName)]
struct Token {
    #[diesel(sql_type = SqlUuid)]
    token: Uuid,
}

/// The columns of some claims, in the order of the claims.
struct Columns {
    keys: Vec<Uuid>,
    weeks: Vec<i32>,
    tokens: Vec<Uuid>,
}

impl Columns {
    fn of(claims: &[Claim]) -> Self {
        Self {
            keys: claims.iter().map(|claim| claim.key.digest()).collect(),
            weeks: claims.iter().map(|claim| claim.key.week()).collect(),
            tokens: claims.iter().map(|claim| claim.token).collect(),
        }
    }
}

/// Claims messages of `handler`, each of which stands in `claims` once, for `lease_seconds`; commits by itself. The answers are in the
/// order of the claims. Taking over a claim that ended by itself, and was not given back, counts as a doubt: its effect may have happened.
/// One that ends later than any can was made while the clock was ahead (decision 74), and has ended too.
///
/// # Errors
/// When the database refuses; then nothing is claimed.
pub async fn claim(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
    lease_seconds: f64,
) -> Result<Vec<Claimed>, StoreError> {
    let Columns { keys, weeks, tokens } = Columns::of(claims);
    // One order for everybody, so that two that claim the same messages wait for each other instead of for ever.
    let ours: Vec<Token> = prepared(
        "INSERT INTO bus.inbox AS inbox (handler, key, week, token, claimed_until) \
         SELECT $1, key, week, token, now() + make_interval(secs => $5) \
           FROM unnest($2, $3, $4) AS new (key, week, token) ORDER BY key \
         ON CONFLICT (key, week) DO UPDATE \
            SET token = excluded.token, claimed_until = excluded.claimed_until, \
                doubts = inbox.doubts + CASE WHEN inbox.claimed_until = '-infinity' THEN 0 ELSE 1 END \
            WHERE inbox.done_at IS NULL AND NOT inbox.given_up \
              AND (inbox.claimed_until <= now() OR inbox.claimed_until > now() + make_interval(secs => 2 * $5)) \
         RETURNING token",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<SqlUuid>, _>(&keys)
    .bind::<Array<Integer>, _>(&weeks)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Double, _>(lease_seconds)
    .load(connection)
    .await?;
    let ours: HashSet<Uuid> = ours.into_iter().map(|row| row.token).collect();
    if ours.len() == claims.len() {
        return Ok(vec![Claimed::Ours; claims.len()]);
    }
    let found: Vec<Found> = prepared(
        "SELECT key, (SELECT CASE WHEN done_at IS NOT NULL THEN 'done' WHEN given_up THEN 'given up' END \
            FROM bus.inbox WHERE inbox.key = asked.key AND inbox.week = asked.week) AS state \
         FROM unnest($1, $2) AS asked (key, week)",
    )
    .bind::<Array<SqlUuid>, _>(&keys)
    .bind::<Array<Integer>, _>(&weeks)
    .load(connection)
    .await?;
    let states: HashMap<Uuid, Option<String>> = found.into_iter().map(|row| (row.key, row.state)).collect();
    Ok(claims
        .iter()
        .zip(&keys)
        .map(|(Claim { token, .. }, key)| {
            if ours.contains(token) {
                return Claimed::Ours;
            }
            match states.get(key).and_then(Option::as_deref) {
                Some("done") => Claimed::Done,
                Some("given up") => Claimed::GivenUp,
                // Also a row pruned between the two statements: the delivery comes again and finds it gone.
                _ => Claimed::Live,
            }
        })
        .collect())
}

/// Whether the database takes a claim: it is neither a standby nor out of room.
///
/// # Errors
/// When it does not say so within `limit`, or no connection can be had.
pub async fn is_writable(pool: &Pool, limit: Duration) -> Result<bool, StoreError> {
    Ok(refusal(pool, limit).await?.is_none())
}

/// Why the database takes no claim, in its own words, if it takes none.
///
/// # Errors
/// As `is_writable`.
pub async fn refusal(pool: &Pool, limit: Duration) -> Result<Option<String>, StoreError> {
    let tried = pool.run(|mut connection| async move {
        let probe = connection.transaction(async |connection| {
            prepared(
                "INSERT INTO bus.inbox (handler, key, week, token, claimed_until) \
                 VALUES ('', gen_random_uuid(), -1, gen_random_uuid(), '-infinity')",
            )
            .execute(connection)
            .await?;
            Err::<(), _>(diesel::result::Error::RollbackTransaction)
        });
        let refused = probe.await.err().filter(|error| *error != diesel::result::Error::RollbackTransaction);
        Ok::<_, StoreError>(refused.map(|error| error.to_string()))
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
    let Columns { keys, weeks, tokens } = Columns::of(claims);
    // Not kept prepared: the order of its join depends on how large the table is.
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = now() + make_interval(secs => $5) \
         FROM unnest($2, $3, $4) AS held (key, week, token) \
         WHERE inbox.handler = $1 AND inbox.key = held.key AND inbox.week = held.week \
           AND inbox.token = held.token AND inbox.done_at IS NULL",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<SqlUuid>, _>(&keys)
    .bind::<Array<Integer>, _>(&weeks)
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
         WHERE key = $1 AND week = $2 AND token = $3 AND done_at IS NULL",
    )
    .bind::<SqlUuid, _>(claim.key.digest())
    .bind::<Integer, _>(claim.key.week())
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
    let Columns { keys, weeks, tokens } = Columns::of(claims);
    // In one order for everybody, as in `claim`.
    prepared(
        "INSERT INTO bus.inbox AS inbox (handler, key, week, token, claimed_until, done_at) \
         SELECT DISTINCT ON (key) $1, key, week, token, now(), now() \
           FROM unnest($2, $3, $4) AS happened (key, week, token) ORDER BY key \
         ON CONFLICT (key, week) DO UPDATE SET done_at = coalesce(inbox.done_at, now())",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<SqlUuid>, _>(&keys)
    .bind::<Array<Integer>, _>(&weeks)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives claims back, each as `releases` says in the same order, so that the next deliveries need not wait for their end.
///
/// # Errors
/// When the database refuses.
pub async fn release(
    connection: &mut AsyncPgConnection,
    handler: &str,
    claims: &[Claim],
    releases: &[Release],
) -> Result<(), StoreError> {
    let Columns { keys, weeks, tokens } = Columns::of(claims);
    let doubts: Vec<i32> = releases.iter().map(|how| i32::from(*how != Release::Untouched)).collect();
    let given_up: Vec<bool> = releases.iter().map(|how| *how == Release::GivenUp).collect();
    // Not kept prepared, as in `renew`.
    diesel::sql_query(
        "UPDATE bus.inbox SET claimed_until = '-infinity', doubts = inbox.doubts + given.doubts, given_up = given.up \
         FROM unnest($2, $3, $4, $5, $6) AS given (key, week, token, doubts, up) \
         WHERE inbox.handler = $1 AND inbox.key = given.key AND inbox.week = given.week \
           AND inbox.token = given.token AND inbox.done_at IS NULL",
    )
    .bind::<Text, _>(handler)
    .bind::<Array<SqlUuid>, _>(&keys)
    .bind::<Array<Integer>, _>(&weeks)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Array<Integer>, _>(&doubts)
    .bind::<Array<Bool>, _>(&given_up)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn week(id: &str) -> i32 {
        MessageKey { handler: "h", source: "/s".to_owned(), id: id.to_owned() }.week()
    }

    #[test]
    fn a_row_lies_in_the_week_that_its_id_tells() {
        // As bus.inbox_week and bus.inbox_key have it.
        assert_eq!(week("0193a1b2-c3d4-7000-8000-000000000000"), 2866);
        assert_eq!(digest("maily.email", "/autha", "x").to_string(), "1aa20c78-f7ed-d117-009e-a5c4f15caf46");
        for other in [
            "x",
            "",
            "0193A1B2-C3D4-7000-8000-000000000000",
            "0193a1b2c3d470008000000000000000",
            "0193a1b2-c3d4-4000-8000-000000000000",
            "0193a1b2-c3d4-7000-0000-000000000000",
        ] {
            assert_eq!(week(other), -1, "{other}");
        }
    }

    #[test]
    fn a_digest_tells_apart_what_its_parts_tell_apart() {
        let all =
            [digest("a", "b", "c"), digest("a", "bc", ""), digest("a", "", "bc"), digest("ab", "", "c")];
        for (place, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(place + 1).any(|other| other == one));
        }
    }
}
