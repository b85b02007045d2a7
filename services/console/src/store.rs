//! The figures that PostgreSQL has: dead letters of each handler, the outbox. The queries live in `actors::store`.

use std::collections::HashMap;

use orrery_actors::store::{
    Pool, StoreError,
    dead_letters::{Filter, read},
    outbox::{self, Lag},
};

use crate::figures::OutboxFigures;

/// Dead letters by handler, and the outbox of every producer that has something in it.
///
/// # Errors
/// When the database is away or refuses.
pub async fn look(pool: &Pool) -> Result<(HashMap<String, u64>, Vec<OutboxFigures>), StoreError> {
    let mut connection = pool.get().await?;
    let counts = read::counts(&mut connection, &Filter::default()).await?;
    let letters = counts.into_iter().map(|count| (count.handler, unsigned(count.letters))).collect();
    let lags = outbox::lag(&mut connection).await?;
    let some = lags.into_iter().filter(|lag| lag.pending + lag.unrouted + lag.failed > 0);
    Ok((letters, some.map(figures).collect()))
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
