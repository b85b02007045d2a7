//! What an operator wants to know of the outbox: how much waits, for how long, and what waits for a decision.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::OPERATOR;
use crate::StoreError;

/// Rows are counted up to here, so that a backlog of millions is not read to tell that it is long.
pub const COUNTED: i64 = 100_000;

/// The outbox of one producer.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Lag {
    /// Whose rows: a service's, or the operator's.
    #[diesel(sql_type = Text)]
    pub producer: String,
    /// Rows that are to be published; `COUNTED` means that many or more. Those refused and those suspected are among them.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// How long the oldest of them waits; 0 when there is none.
    #[diesel(sql_type = Double)]
    pub oldest_seconds: f64,
    /// Pending rows that the broker refused to keep, such as for a full queue; up to `COUNTED`.
    #[diesel(sql_type = BigInt)]
    pub refused: i64,
    /// Pending rows in whose company the broker closed a channel or a connection; up to `COUNTED`.
    #[diesel(sql_type = BigInt)]
    pub suspects: i64,
    /// Rows that a queue should be bound for and none was; up to `COUNTED`.
    #[diesel(sql_type = BigInt)]
    pub unrouted: i64,
    /// Rows that can never be published; up to `COUNTED`.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
}

/// The outbox of these producers, also of those without rows, and what an operator has published again. The database's clock tells how long a row waits.
///
/// # Errors
/// When the database refuses.
pub async fn lag(connection: &mut AsyncPgConnection, producers: &[&str]) -> Result<Vec<Lag>, StoreError> {
    let producers: Vec<_> = producers.iter().copied().chain([OPERATOR]).collect();
    let counted = |condition: &str| {
        format!(
            "(SELECT count(*) FROM (SELECT FROM bus.outbox WHERE producer = name AND {condition} LIMIT {COUNTED}) AS few)"
        )
    };
    let oldest = |condition: &str, order: &str| {
        format!(
            "(SELECT time FROM bus.outbox WHERE producer = name AND {condition} ORDER BY {order} LIMIT 1)"
        )
    };
    // Each condition is that of a partial index.
    let waiting = "status = 'pending' AND refusals = 0 AND suspicion = 0";
    let refused = "status = 'pending' AND refusals > 0 AND suspicion = 0";
    let suspect = "status = 'pending' AND suspicion > 0";
    let sql = format!(
        "SELECT name AS producer, least(waiting + refused + suspects, {COUNTED}) AS pending, \
                greatest(0, coalesce(extract(epoch FROM now() - oldest), 0))::float8 AS oldest_seconds, \
                refused, suspects, unrouted, failed \
         FROM unnest($1) AS producers(name) CROSS JOIN LATERAL (SELECT \
            {} AS waiting, {} AS refused, {} AS suspects, {} AS unrouted, {} AS failed, \
            least({}, {}, {}) AS oldest) AS figures",
        counted(waiting),
        counted(refused),
        counted(suspect),
        counted("status = 'unrouted'"),
        counted("status = 'failed'"),
        oldest(waiting, "seq + 0"),
        oldest(refused, "retry_at"),
        oldest(suspect, "retry_at"),
    );
    Ok(diesel::sql_query(sql).bind::<Array<Text>, _>(producers).load(connection).await?)
}
