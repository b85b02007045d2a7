//! The pruner actor: removes rows of the inbox that no message can come again for, and dead letters where a time is set for them. Sent rows of
//! the outbox are pruned by its relay.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tracing::info;

use super::{Pool, StoreError};
use crate::{
    config::retention::Retention,
    supervise::{Pulse, Shutdown},
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(600);
/// Rows that are looked at in one statement.
const ROWS: i64 = 1000;
/// Between two statements, so that others get at the database.
const PAUSE: Duration = Duration::from_millis(50);

/// Prunes for this process's handlers.
pub struct Pruner {
    /// A pool whose role may remove rows of the inbox and dead letters.
    pub pool: Pool,
    /// The handlers' names, and those of bridges' queues, by which their dead letters go.
    pub handlers: Vec<&'static str>,
    /// How long rows are kept.
    pub retention: Retention,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

/// What one statement saw and removed.
#[derive(QueryableByName)]
struct Swept {
    #[diesel(sql_type = BigInt)]
    seen: i64,
    #[diesel(sql_type = BigInt)]
    removed: i64,
    /// Where the next one goes on.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    reached: Option<DateTime<Utc>>,
}

impl Pruner {
    /// Prunes until shutdown.
    ///
    /// # Errors
    /// When the database goes away or refuses.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.shutdown.requested() => return Ok(()),
            }
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                pruned = async {
                    let held = self.pulse.take();
                    self.prune().await.map(|()| held.done())
                } => pruned?,
                () = shutdown.requested() => return Ok(()),
            }
        }
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let mut letters = 0;
        if let Some(keep) = self.retention.dead_letters {
            loop {
                let mut connection = self.pool.get().await?;
                let removed = dead_letters(&mut connection, &self.handlers, keep.as_secs_f64()).await?;
                drop(connection);
                self.pulse.beat();
                letters += removed;
                if removed == 0 {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let (mut rows, mut after) = (0, DateTime::<Utc>::UNIX_EPOCH);
        loop {
            let mut connection = self.pool.get().await?;
            let swept =
                inbox(&mut connection, &self.handlers, self.retention.inbox.as_secs_f64(), after).await?;
            drop(connection);
            self.pulse.beat();
            rows += swept.removed;
            match swept.reached {
                Some(reached) if swept.seen == ROWS => after = reached,
                _ => break,
            }
            tokio::time::sleep(PAUSE).await;
        }
        if letters > 0 || rows > 0 {
            info!(dead_letters = letters, inbox = rows, "pruned");
        }
        Ok(())
    }
}

/// Removes rows of the inbox older than `keep_seconds`, but none whose message is a dead letter (it can be redriven) or stands in the outbox
/// unsent (it can be published).
async fn inbox(
    connection: &mut AsyncPgConnection,
    handlers: &[&str],
    keep_seconds: f64,
    after: DateTime<Utc>,
) -> Result<Swept, StoreError> {
    Ok(diesel::sql_query(
        "WITH old AS MATERIALIZED (\
            SELECT handler, source, id, created_at, \
                   CASE WHEN id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN id::uuid END AS event \
            FROM bus.inbox WHERE handler = ANY($1) AND created_at < now() - make_interval(secs => $2) AND created_at > $3 \
            ORDER BY created_at LIMIT $4), \
         gone AS (\
            DELETE FROM bus.inbox USING old \
            WHERE inbox.handler = old.handler AND inbox.source = old.source AND inbox.id = old.id \
              AND NOT EXISTS (SELECT FROM bus.dead_letters WHERE event_id = old.id AND dead_letters.handler = old.handler) \
              AND NOT EXISTS (SELECT FROM bus.outbox WHERE outbox.id = old.event AND status <> 'sent') \
            RETURNING 1) \
         SELECT count(*) AS seen, (SELECT count(*) FROM gone) AS removed, max(created_at) AS reached FROM old",
    )
    .bind::<Array<Text>, _>(handlers)
    .bind::<Double, _>(keep_seconds)
    .bind::<Timestamptz, _>(after)
    .bind::<BigInt, _>(ROWS)
    .get_result(connection)
    .await?)
}

/// Removes dead letters that came longer than `keep_seconds` ago.
async fn dead_letters(
    connection: &mut AsyncPgConnection,
    handlers: &[&str],
    keep_seconds: f64,
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "DELETE FROM bus.dead_letters WHERE id IN (SELECT id FROM bus.dead_letters WHERE handler = ANY($1) \
           AND archived_at < now() - make_interval(secs => $2) ORDER BY archived_at LIMIT $3)",
    )
    .bind::<Array<Text>, _>(handlers)
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(ROWS)
    .execute(connection)
    .await?)
}
