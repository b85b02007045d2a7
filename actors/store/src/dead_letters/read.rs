//! Reading letters: pages for a list, whole letters, counts. Ages are by the database's time.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bytea, Double, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::filter::{CHOSEN, Filter, bound};
use crate::StoreError;

/// What a list shows of a letter: nothing in it is personal.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Summary {
    /// The letter's id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Which handler gave up.
    #[diesel(sql_type = Text)]
    pub handler: String,
    /// The CloudEvents type, where it could be read.
    #[diesel(sql_type = Nullable<Text>, column_name = "type")]
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// How often it was tried.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// The trace it belongs to.
    #[diesel(sql_type = Nullable<Text>)]
    pub trace_id: Option<String>,
    /// When the handler gave up.
    #[diesel(sql_type = Timestamptz)]
    pub failed_at: DateTime<Utc>,
    /// How long ago that is.
    #[diesel(sql_type = Double)]
    pub age_seconds: f64,
}

/// A whole letter.
#[derive(Debug, Clone, QueryableByName)]
pub struct StoredLetter {
    /// What a list shows of it.
    #[diesel(embed)]
    pub summary: Summary,
    /// The CloudEvents source, where it could be read.
    #[diesel(sql_type = Nullable<Text>)]
    pub source: Option<String>,
    /// The CloudEvents id, where it could be read.
    #[diesel(sql_type = Nullable<Text>)]
    pub event_id: Option<String>,
    /// The chain of causes, outermost first.
    #[diesel(sql_type = Array<Text>)]
    pub causes: Vec<String>,
    /// When it came into the table.
    #[diesel(sql_type = Timestamptz)]
    pub archived_at: DateTime<Utc>,
    /// The body's media type.
    #[diesel(sql_type = Nullable<Text>)]
    pub content_type: Option<String>,
    /// The message's headers.
    #[diesel(sql_type = Jsonb)]
    pub headers: Value,
    /// The message's body as it came.
    #[diesel(sql_type = Bytea)]
    pub body: Vec<u8>,
}

/// How many letters a handler has.
#[derive(Debug, Clone, QueryableByName)]
pub struct HandlerCount {
    /// Which handler gave up.
    #[diesel(sql_type = Text)]
    pub handler: String,
    /// Letters.
    #[diesel(sql_type = BigInt)]
    pub letters: i64,
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

const SUMMARY: &str = "id, handler, type, reason, attempts, trace_id, failed_at, \
    extract(epoch FROM now() - failed_at)::float8 AS age_seconds";

/// A page of the chosen letters, the last archived first; the next page is that after the last one's id.
///
/// # Errors
/// When the database refuses.
pub async fn page(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Summary>, StoreError> {
    let sql = format!(
        "SELECT {SUMMARY} FROM bus.dead_letters WHERE {CHOSEN} AND ($8::uuid IS NULL OR id < $8) \
         ORDER BY id DESC LIMIT $9"
    );
    let query = bound(filter, sql).bind::<Nullable<SqlUuid>, _>(after).bind::<BigInt, _>(limit);
    Ok(query.load(connection).await?)
}

/// The chosen letters whole, the first archived first; the next ones are those after the last one's id.
///
/// # Errors
/// When the database refuses.
pub async fn letters(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<StoredLetter>, StoreError> {
    let sql = format!(
        "SELECT {SUMMARY}, source, event_id, causes, archived_at, content_type, headers, body \
         FROM bus.dead_letters WHERE {CHOSEN} AND ($8::uuid IS NULL OR id > $8) ORDER BY id LIMIT $9"
    );
    let query = bound(filter, sql).bind::<Nullable<SqlUuid>, _>(after).bind::<BigInt, _>(limit);
    Ok(query.load(connection).await?)
}

/// The chosen letters of each handler that has any.
///
/// # Errors
/// When the database refuses.
pub async fn counts(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
) -> Result<Vec<HandlerCount>, StoreError> {
    let sql = format!(
        "SELECT handler, count(*) AS letters FROM bus.dead_letters WHERE {CHOSEN} GROUP BY handler ORDER BY handler"
    );
    Ok(bound(filter, sql).load(connection).await?)
}

/// Letters of a handler are counted up to here for the metrics, so that a million is not read every few seconds.
const COUNTED: i64 = 100_000;

/// How many letters of each handler wait for an operator, up to 100,000.
///
/// # Errors
/// When the database refuses.
pub async fn waiting(
    connection: &mut AsyncPgConnection,
    handlers: &[&'static str],
) -> Result<Vec<(&'static str, u64)>, StoreError> {
    // Along `dead_letters_handler`.
    let sql = format!(
        "SELECT name AS handler, (SELECT count(*) FROM (\
            SELECT FROM bus.dead_letters WHERE handler = name LIMIT {COUNTED}) AS few) AS letters \
         FROM unnest($1) AS handlers(name)"
    );
    let counts: Vec<HandlerCount> =
        diesel::sql_query(sql).bind::<Array<Text>, _>(handlers).load(connection).await?;
    let of = |name: &str| handlers.iter().copied().find(|handler| *handler == name);
    let letters = |count: i64| u64::try_from(count).unwrap_or_default();
    Ok(counts.iter().filter_map(|count| Some((of(&count.handler)?, letters(count.letters)))).collect())
}

/// The database's time, for a filter's `until`.
///
/// # Errors
/// When the database refuses.
pub async fn now(connection: &mut AsyncPgConnection) -> Result<DateTime<Utc>, StoreError> {
    let row: Now = diesel::sql_query("SELECT now() AS now").get_result(connection).await?;
    Ok(row.now)
}

/// Letters that failed for one reason.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct ReasonCount {
    /// Which handler gave up.
    #[diesel(sql_type = Text)]
    pub handler: String,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// Letters.
    #[diesel(sql_type = BigInt)]
    pub letters: i64,
    /// When the last of them failed.
    #[diesel(sql_type = Timestamptz)]
    pub last_failed_at: DateTime<Utc>,
}

/// The chosen letters by handler and reason, the most frequent first, `limit` reasons at most. What tells one failure from another of its kind, such as an id or a number of
/// bytes, is left out of a reason.
///
/// # Errors
/// When the database refuses.
pub async fn reasons(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<ReasonCount>, StoreError> {
    let sql = format!(
        "SELECT handler, regexp_replace(left(reason, 200), '[0-9a-f]{{8}}-[0-9a-f-]{{27}}|[0-9]{{4,}}', '*', 'g') AS reason, \
                count(*) AS letters, max(failed_at) AS last_failed_at \
         FROM bus.dead_letters WHERE {CHOSEN} GROUP BY 1, 2 ORDER BY letters DESC, 1, 2 LIMIT $8"
    );
    Ok(bound(filter, sql).bind::<BigInt, _>(limit).load(connection).await?)
}

/// The same among the last `among` letters that were archived: its cost is bounded however many letters there are.
///
/// # Errors
/// When the database refuses.
pub async fn recent_reasons(
    connection: &mut AsyncPgConnection,
    filter: &Filter,
    among: i64,
    limit: i64,
) -> Result<Vec<ReasonCount>, StoreError> {
    let sql = format!(
        "SELECT handler, regexp_replace(left(reason, 200), '[0-9a-f]{{8}}-[0-9a-f-]{{27}}|[0-9]{{4,}}', '*', 'g') AS reason, \
                count(*) AS letters, max(failed_at) AS last_failed_at \
         FROM (SELECT handler, reason, failed_at FROM bus.dead_letters WHERE {CHOSEN} ORDER BY id DESC LIMIT $8) AS recent \
         GROUP BY 1, 2 ORDER BY letters DESC, 1, 2 LIMIT $9"
    );
    Ok(bound(filter, sql).bind::<BigInt, _>(among).bind::<BigInt, _>(limit).load(connection).await?)
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Up to `limit` ids that begin with `prefix`, the beginning of a UUID as it is written.
///
/// # Errors
/// When the database refuses.
pub async fn of_prefix(
    connection: &mut AsyncPgConnection,
    prefix: &str,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    // Between the first and the last id that begin so, along the primary key.
    let rest = |fill: char| -> String {
        let shape = "00000000-0000-0000-0000-000000000000".chars().skip(prefix.len());
        prefix.chars().chain(shape.map(|c| if c == '-' { c } else { fill })).collect()
    };
    let (first, last) = (Uuid::try_parse(&rest('0')), Uuid::try_parse(&rest('f')));
    let (Ok(first), Ok(last)) = (first, last) else { return Ok(Vec::new()) };
    let ids: Vec<Id> =
        diesel::sql_query("SELECT id FROM bus.dead_letters WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3")
            .bind::<SqlUuid, _>(first)
            .bind::<SqlUuid, _>(last)
            .bind::<BigInt, _>(limit)
            .load(connection)
            .await?;
    Ok(ids.into_iter().map(|row| row.id).collect())
}
