//! What a relay asks of the outbox: leases, and what became of the rows. All times are the database's.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, QueryableByName,
    sql_types::{
        Array, BigInt, Binary, Double, Int8, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz,
        Uuid as SqlUuid,
    },
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_schemas::topology::MAX_MESSAGE_BYTES;
use serde_json::Value;
use uuid::Uuid;

use crate::{StoreError, prepared::prepared};

/// Rows of one producer in a lease: the oldest, the newest, and those that the broker refused before.
const OLDEST: usize = 384;
const NEWEST: usize = 64;
const REFUSED: usize = 64;
/// The most rows of one lease.
pub const BATCH: usize = OLDEST + NEWEST + REFUSED;
/// Bytes of a lease, unless its first row alone has more.
const LEASE_BYTES: u32 = 2 * 1024 * 1024;
/// JSON as the database keeps it has at most six times the bytes that it has as text: a row above this is not even read.
const READ_BYTES: usize = 8 * MAX_MESSAGE_BYTES;
/// How long a lease may take that looks from the start.
const SWEEP_LIMIT: &str = "SET LOCAL statement_timeout = '60s'";

/// Leases and marks are not awaited on the disk (`synchronous_commit` in PostgreSQL's manual): when the server crashes, what it wrote in the last three
/// `wal_writer_delay` (0.6 s) of them is forgotten, and what they told of is published once more, for inboxes to tell.
const SOON: &str = "set_config('synchronous_commit', 'off', true)";

/// Whether nobody has a row. A lease that ends later than any can was given while the clock was ahead, and is none (decision 74).
const FREE: &str = "(leased_until < now() OR leased_until > now() + make_interval(secs => 2 * $2))";

const COLUMNS: &str = "seq, id, source, type, subject, version, traceparent, tracestate, time, expires_at, exchange, routing_key, attempts, \
     suspicion, content_type, headers";
/// What data and body take, told without reading them.
const BYTES: &str = "pg_column_size(data) + coalesce(octet_length(body), 0)";

/// A row to be published.
#[derive(Debug, Clone, QueryableByName)]
pub struct Row {
    /// Its place.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// The CloudEvents id; of a message that is published again, the row's own.
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
    /// What its sender wants to be passed on.
    #[diesel(sql_type = Nullable<Text>)]
    pub tracestate: Option<String>,
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
    /// How often a publish of it was begun, this time included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// How often the broker closed the channel or the connection on it.
    #[diesel(sql_type = SmallInt)]
    pub suspicion: i16,
    /// The media type of `body`.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The headers of `body`, a JSON object.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub headers: Option<Value>,
    /// Bytes of data or body as the database keeps them. Above `READ_BYTES` neither is read.
    #[diesel(sql_type = BigInt)]
    pub stored_bytes: i64,
    /// The data; null where there is a body.
    #[diesel(sql_type = Jsonb)]
    pub data: Value,
    /// A message that is published again, just as it was.
    #[diesel(sql_type = Nullable<Binary>)]
    pub body: Option<Vec<u8>>,
    /// The last of the oldest rows in the same lease, which the place of the next lease depends on; null where there is none.
    #[diesel(sql_type = Nullable<Int8>)]
    pub backlog: Option<i64>,
}

impl Row {
    /// Whether it is so large that data and body were not read.
    pub fn is_unread(&self) -> bool {
        usize::try_from(self.stored_bytes).is_ok_and(|bytes| bytes > READ_BYTES)
    }
}

/// Where a lease looks. What lies before is dead entries of the index, which every look would read again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// The oldest rows are looked for after this one.
    pub after: i64,
    /// Rows after this one are new.
    pub recent: i64,
}

/// What became of a published row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Confirmed by the broker.
    Sent,
    /// Returned, and nobody is meant to get it: no queue of an enabled service or of a partner wants its kind.
    Unwanted,
    /// Returned: a queue that should be bound for it is not.
    Unrouted,
    /// It can never be published.
    Failed,
}

impl Settled {
    const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Unwanted => "unwanted",
            Self::Unrouted => "unrouted",
            Self::Failed => "failed",
        }
    }
}

#[derive(QueryableByName)]
struct Seq {
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

/// A lease that looks from the start, and what is new from now on: rows that are not more than `reordered` places before the newest. A look
/// past the dead entries of millions may take longer than other statements may.
///
/// # Errors
/// When the database refuses.
pub async fn sweep(
    connection: &mut AsyncPgConnection,
    producers: &[&str],
    token: Uuid,
    lease_seconds: i32,
    reordered: i64,
) -> Result<(Vec<Row>, Place), StoreError> {
    connection
        .transaction::<_, StoreError, _>(async |connection| {
            diesel::sql_query(SWEEP_LIMIT).execute(connection).await?;
            set_pauses_right(connection, producers).await?;
            let place = Place { after: 0, recent: last(connection).await?.saturating_sub(reordered) };
            Ok((lease(connection, producers, token, lease_seconds, place).await?, place))
        })
        .await
}

/// Ends pauses that last longer than any can: they were begun while the clock was ahead.
async fn set_pauses_right(connection: &mut AsyncPgConnection, producers: &[&str]) -> Result<(), StoreError> {
    // One look for each of the two indices.
    for rows in ["refusals > 0 AND suspicion = 0", "suspicion > 0"] {
        prepared(format!(
            "UPDATE bus.outbox SET retry_at = now() WHERE seq = ANY(ARRAY(SELECT seq FROM bus.outbox \
                WHERE status = 'pending' AND {rows} AND producer = ANY($1) AND retry_at > now() + interval '1 minute' \
                LIMIT {REFUSED} FOR UPDATE SKIP LOCKED))"
        ))
        .bind::<Array<Text>, _>(producers)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// The place of the newest row.
async fn last(connection: &mut AsyncPgConnection) -> Result<i64, StoreError> {
    let row: Option<Seq> = prepared("SELECT seq FROM bus.outbox ORDER BY seq DESC LIMIT 1")
        .get_result(connection)
        .await
        .optional()?;
    Ok(row.map_or(0, |row| row.seq))
}

/// Leases pending rows of `producers` for `lease_seconds`, by `seq`: some of the oldest, some of the newest (so that what happens now need
/// not wait for a backlog), some of those refused before (so that they hold up nobody). Rows leased by another relay are skipped.
///
/// # Errors
/// When the database refuses.
pub async fn lease(
    connection: &mut AsyncPgConnection,
    producers: &[&str],
    token: Uuid,
    lease_seconds: i32,
    place: Place,
) -> Result<Vec<Row>, StoreError> {
    let slice = |is_backlog: bool, condition: &str, order: &str, limit: usize| {
        format!(
            "SELECT *, row_number() OVER () AS rank FROM (\
                SELECT seq, {BYTES} AS bytes, {is_backlog} AS is_backlog \
                FROM bus.outbox WHERE producer = name AND status = 'pending' AND suspicion = 0 AND {FREE} \
                  AND {condition} ORDER BY {order} LIMIT {limit} FOR UPDATE SKIP LOCKED) AS slice"
        )
    };
    // By `seq + 0`, as `outbox_pending` has it: along the primary key a producer without rows would cost a look at all the rows of others.
    // The slices are of three indices and two ends: a list of producers or an OR in one look would sort the whole backlog.
    // What was picked is an array, here and below: a join could be walked along all of the outbox (decision 23).
    let sql = format!(
        "WITH slices AS MATERIALIZED (\
            SELECT slices.* FROM {SOON}, unnest($3) AS producers(name) CROSS JOIN LATERAL ({} UNION ALL {} UNION ALL {}) AS slices), \
         picked AS (SELECT seq, min(bytes) AS bytes, bool_or(is_backlog) AS is_backlog, min(rank) AS rank FROM slices GROUP BY seq), \
         counted AS (SELECT *, sum(bytes) OVER (ORDER BY rank, seq) AS total FROM picked), \
         taken AS (SELECT seq, is_backlog FROM counted WHERE total <= {LEASE_BYTES} OR total = bytes) \
         UPDATE bus.outbox SET lease = $1, leased_until = now() + make_interval(secs => $2), attempts = attempts + 1 \
         WHERE seq = ANY(ARRAY(SELECT seq FROM taken)) \
         RETURNING {COLUMNS}, ({BYTES})::bigint AS stored_bytes, (SELECT max(seq) FROM taken WHERE is_backlog) AS backlog, \
            CASE WHEN {BYTES} > {READ_BYTES} THEN 'null' ELSE data END AS data, \
            CASE WHEN {BYTES} > {READ_BYTES} THEN NULL ELSE body END AS body",
        slice(true, "refusals = 0 AND seq + 0 > $4", "seq + 0", OLDEST),
        slice(false, "refusals = 0 AND seq + 0 > $5", "seq + 0 DESC", NEWEST),
        slice(false, "refusals > 0 AND retry_at < now()", "retry_at", REFUSED),
    );
    let mut rows: Vec<Row> = prepared(sql)
        .bind::<SqlUuid, _>(token)
        .bind::<Integer, _>(lease_seconds)
        .bind::<Array<Text>, _>(producers)
        .bind::<BigInt, _>(place.after)
        .bind::<BigInt, _>(place.recent)
        .load(connection)
        .await?;
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

/// Whether a lease was as full as one slice of it may be, so that the next one may find more.
pub fn may_have_more(rows: &[Row]) -> bool {
    let bytes: i64 = rows.iter().map(|row| row.stored_bytes).sum();
    rows.len() >= NEWEST.min(REFUSED) || bytes >= i64::from(LEASE_BYTES) / 2
}

/// Leases one suspect, to be published alone.
///
/// # Errors
/// When the database refuses.
pub async fn suspects(
    connection: &mut AsyncPgConnection,
    producers: &[&str],
    token: Uuid,
    lease_seconds: i32,
) -> Result<Option<Row>, StoreError> {
    let sql = format!(
        "UPDATE bus.outbox SET lease = $1, leased_until = now() + make_interval(secs => $2), attempts = attempts + 1 \
         WHERE seq = ANY(ARRAY(SELECT seq FROM bus.outbox \
            WHERE status = 'pending' AND suspicion > 0 AND producer = ANY($3) AND retry_at < now() AND {FREE} \
            ORDER BY retry_at LIMIT 1 FOR UPDATE SKIP LOCKED)) \
         RETURNING {COLUMNS}, ({BYTES})::bigint AS stored_bytes, NULL::bigint AS backlog, data, body"
    );
    Ok(prepared(sql)
        .bind::<SqlUuid, _>(token)
        .bind::<Integer, _>(lease_seconds)
        .bind::<Array<Text>, _>(producers)
        .get_result(connection)
        .await
        .optional()?)
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
    prepared(format!(
        "UPDATE bus.outbox SET status = $2, settled_at = now(), last_error = $3 FROM {SOON} \
             WHERE seq = ANY($1) AND status = 'pending'"
    ))
    .bind::<Array<BigInt>, _>(rows)
    .bind::<Text, _>(how.name())
    .bind::<Nullable<Text>, _>(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps leased rows for `lease_seconds` more: their messages are on their way, and the broker takes its time.
///
/// # Errors
/// When the database refuses.
pub async fn renew(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    token: Uuid,
    lease_seconds: i32,
) -> Result<(), StoreError> {
    prepared(
        "UPDATE bus.outbox SET leased_until = now() + make_interval(secs => $3) \
         WHERE seq = ANY($1) AND lease = $2 AND status = 'pending'",
    )
    .bind::<Array<BigInt>, _>(rows)
    .bind::<SqlUuid, _>(token)
    .bind::<Integer, _>(lease_seconds)
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
    give_back(connection, rows, token, error, "").await
}

/// Gives back rows that the broker refused to keep; each pauses longer with every refusal, 10 s at most.
///
/// # Errors
/// When the database refuses.
pub async fn refuse(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    token: Uuid,
    error: &str,
) -> Result<(), StoreError> {
    let pause = "refusals = refusals + 1, \
                 retry_at = now() + make_interval(secs => least(10, 0.25 * 2 ^ least(refusals, 10))), ";
    give_back(connection, rows, token, error, pause).await
}

/// Gives back rows on which the broker closed the channel or the connection: from now on each is published alone. The pauses as in `refuse`.
///
/// # Errors
/// When the database refuses.
pub async fn suspect(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    token: Uuid,
    error: &str,
) -> Result<(), StoreError> {
    let pause = "suspicion = least(suspicion + 1, 1000), \
                 retry_at = now() + make_interval(secs => least(10, 0.5 * 2 ^ least(suspicion, 10))), ";
    give_back(connection, rows, token, error, pause).await
}

async fn give_back(
    connection: &mut AsyncPgConnection,
    rows: &[i64],
    token: Uuid,
    error: &str,
    change: &str,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    prepared(format!(
        "UPDATE bus.outbox SET lease = NULL, leased_until = '-infinity', {change}last_error = $3 \
         WHERE seq = ANY($1) AND lease = $2 AND status = 'pending'"
    ))
    .bind::<Array<BigInt>, _>(rows)
    .bind::<SqlUuid, _>(token)
    .bind::<Text, _>(error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes up to `limit` rows that were sent, or found unwanted, longer than `keep_seconds` ago, and as many that no queue was bound for until they expired;
/// returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    keep_seconds: f64,
    limit: i64,
) -> Result<usize, StoreError> {
    let sent = prepared(
        "DELETE FROM bus.outbox WHERE seq = ANY(ARRAY(SELECT seq FROM bus.outbox \
         WHERE status IN ('sent', 'unwanted') AND settled_at < now() - make_interval(secs => $1) \
         ORDER BY settled_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?;
    let expired = prepared(
        "DELETE FROM bus.outbox WHERE seq = ANY(ARRAY(SELECT seq FROM bus.outbox \
         WHERE status = 'unrouted' AND expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?;
    Ok(sent + expired)
}
