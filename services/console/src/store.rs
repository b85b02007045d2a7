//! The figures that PostgreSQL has: dead letters of each handler, the outbox. Queries of the tables themselves live in `actors::store`.

use std::collections::HashMap;

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Double, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use orrery_actors::store::{
    Pool, StoreError,
    dead_letters::{Filter, read},
};

use crate::figures::OutboxFigures;

#[derive(QueryableByName)]
struct OutboxRow {
    #[diesel(sql_type = Text)]
    producer: String,
    #[diesel(sql_type = BigInt)]
    pending: i64,
    #[diesel(sql_type = Nullable<Double>)]
    oldest: Option<f64>,
    #[diesel(sql_type = BigInt)]
    unrouted: i64,
    #[diesel(sql_type = BigInt)]
    failed: i64,
}

/// Dead letters by handler, and the outbox of every producer that has something in it.
///
/// # Errors
/// When the database is away or refuses.
pub async fn look(pool: &Pool) -> Result<(HashMap<String, u64>, Vec<OutboxFigures>), StoreError> {
    let mut connection = pool.get().await?;
    let counts = read::counts(&mut connection, &Filter::default()).await?;
    let letters = counts.into_iter().map(|count| (count.handler, unsigned(count.letters))).collect();
    let rows: Vec<OutboxRow> = diesel::sql_query(
        "SELECT producer, count(*) FILTER (WHERE status = 'pending') AS pending, \
                extract(epoch FROM now() - min(time) FILTER (WHERE status = 'pending'))::float8 AS oldest, \
                count(*) FILTER (WHERE status = 'unrouted') AS unrouted, \
                count(*) FILTER (WHERE status = 'failed') AS failed \
         FROM bus.outbox WHERE status <> 'sent' GROUP BY producer ORDER BY producer",
    )
    .load(&mut connection)
    .await?;
    let outbox = rows.into_iter().map(|row| OutboxFigures {
        producer: row.producer,
        pending: unsigned(row.pending),
        oldest_pending_seconds: row.oldest,
        unrouted: unsigned(row.unrouted),
        failed: unsigned(row.failed),
    });
    Ok((letters, outbox.collect()))
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
