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
use crate::store::StoreError;

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
pub struct Letter {
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
) -> Result<Vec<Letter>, StoreError> {
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

/// The database's time, for a filter's `until`.
///
/// # Errors
/// When the database refuses.
pub async fn now(connection: &mut AsyncPgConnection) -> Result<DateTime<Utc>, StoreError> {
    let row: Now = diesel::sql_query("SELECT now() AS now").get_result(connection).await?;
    Ok(row.now)
}
