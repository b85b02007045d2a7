//! The figures that PostgreSQL has: dead letters and doubts of each handler, the outbox. What only the console asks is asked here, the rest
//! lives in `actors::store`.

use std::collections::HashMap;

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_actors::store::{
    Pool, StoreError,
    dead_letters::{Filter, read},
    outbox::{self, Lag},
};

use crate::figures::OutboxFigures;

/// By handler, where there are any.
pub type Counts = HashMap<String, u64>;

/// Everything at one moment.
pub struct Stored {
    /// Dead letters in the table.
    pub letters: Counts,
    /// Effects that may have happened twice, of the messages that the inbox still knows.
    pub doubts: Counts,
    /// The outbox of every producer that has something in it.
    pub outbox: Vec<OutboxFigures>,
}

#[derive(QueryableByName)]
struct Doubts {
    #[diesel(sql_type = Text)]
    handler: String,
    #[diesel(sql_type = BigInt)]
    doubts: i64,
}

/// Asks for all of it.
///
/// # Errors
/// When the database is away or refuses.
pub async fn look(pool: &Pool) -> Result<Stored, StoreError> {
    let mut connection = pool.get().await?;
    let letters = read::counts(&mut connection, &Filter::default()).await?;
    let letters = letters.into_iter().map(|count| (count.handler, unsigned(count.letters))).collect();
    let doubts = doubts(&mut connection).await?;
    let lags = outbox::lag(&mut connection).await?;
    let some = lags.into_iter().filter(|lag| lag.pending + lag.unrouted + lag.failed > 0);
    Ok(Stored { letters, doubts, outbox: some.map(figures).collect() })
}

async fn doubts(connection: &mut AsyncPgConnection) -> Result<Counts, StoreError> {
    let rows: Vec<Doubts> = diesel::sql_query(
        "SELECT handler, sum(doubts) AS doubts FROM bus.inbox WHERE doubts > 0 GROUP BY handler",
    )
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.handler, unsigned(row.doubts))).collect())
}

fn figures(lag: Lag) -> OutboxFigures {
    OutboxFigures {
        pending: unsigned(lag.pending),
        oldest_pending_seconds: (lag.pending > 0).then_some(lag.oldest_seconds),
        refused: unsigned(lag.refused),
        unrouted: unsigned(lag.unrouted),
        failed: unsigned(lag.failed),
        producer: lag.producer,
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
