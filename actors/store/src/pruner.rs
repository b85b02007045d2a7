//! The pruner actor: drops the weeks of the inbox that no message can come again for, and removes dead letters where a time is set for them, both in
//! small steps. Sent rows of the outbox are pruned by its relay.

use std::time::Duration;

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Nullable, Text},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_config::retention::Retention;
use orrery_supervise::{Actor, ActorError, Handle, Life, Mailbox, Progress, Shutdown, Supervisor, Tick};
use tracing::info;

use super::{Pool, StoreError};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(600);
/// Rows that are looked at in one statement.
const ROWS: i64 = 1000;
/// Between two statements, so that others get at the database.
const PAUSE: Duration = Duration::from_millis(50);

/// Prunes for this process's handlers.
#[derive(Clone)]
pub struct Pruner {
    pool: Pool,
    handlers: Vec<&'static str>,
    retention: Retention,
    progress: Progress,
    shutdown: Shutdown,
}

/// The name of a partition, where one was dropped.
#[derive(QueryableByName)]
struct Dropped {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

impl Actor for Pruner {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(Duration::ZERO, EVERY);
        Ok(())
    }
}

impl Handle<Tick> for Pruner {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let (pruner, mut shutdown) = (self.clone(), self.shutdown.clone());
        async move {
            tokio::select! {
                pruned = pruner.prune() => Ok(pruned?),
                // What is left is pruned another time.
                () = shutdown.requested() => Ok(()),
            }
        }
    }
}

impl Pruner {
    /// Starts the pruner of these handlers, and of bridges' queues, by which their dead letters go. The pool's role may remove rows of the
    /// inbox and dead letters.
    pub fn start(supervisor: &Supervisor, pool: Pool, handlers: Vec<&'static str>, retention: Retention) {
        let (progress, shutdown) = (Progress::default(), supervisor.shutdown_signal());
        let pruner = Self { pool, handlers, retention, progress, shutdown };
        supervisor.start_actor("pruner", Mailbox::own_work(1), move || pruner.clone());
    }

    async fn prune(&self) -> Result<(), StoreError> {
        let mut letters = 0;
        if let Some(keep) = self.retention.dead_letters {
            loop {
                let mut connection = self.pool.get().await?;
                let removed = dead_letters(&mut connection, &self.handlers, keep.as_secs_f64()).await?;
                drop(connection);
                self.progress.advance();
                letters += removed;
                if removed == 0 {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let keep = self.retention.inbox.as_secs_f64();
        let mut connection = self.pool.get().await?;
        // The weeks to come; without them their rows would lie with the rest, and be removed one by one.
        diesel::sql_query("SELECT bus.inbox_ahead()").execute(&mut *connection).await?;
        let mut weeks = 0;
        while let Some(name) = drop_week(&mut connection, keep).await? {
            info!(partition = name, "the messages of a week are forgotten");
            self.progress.advance();
            weeks += 1;
        }
        drop(connection);
        let mut rows = 0;
        loop {
            let mut connection = self.pool.get().await?;
            let removed = rest(&mut connection, keep).await?;
            drop(connection);
            self.progress.advance();
            rows += removed;
            if removed == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if letters > 0 || rows > 0 || weeks > 0 {
            info!(dead_letters = letters, inbox = rows, weeks, "pruned");
        }
        Ok(())
    }
}

/// Drops the partition of the oldest week, if all of it is older than `keep_seconds`. What can still be asked for moves to the rest.
async fn drop_week(
    connection: &mut AsyncPgConnection,
    keep_seconds: f64,
) -> Result<Option<String>, StoreError> {
    connection
        .transaction::<_, StoreError, _>(async |connection| {
            // Among millions it looks for those that move.
            diesel::sql_query("SET LOCAL statement_timeout = '60s'").execute(connection).await?;
            let dropped: Dropped =
                diesel::sql_query("SELECT bus.inbox_drop(make_interval(secs => $1)) AS name")
                    .bind::<Double, _>(keep_seconds)
                    .get_result(connection)
                    .await?;
            Ok(dropped.name)
        })
        .await
}

/// Removes up to `ROWS` rows that lie in no week's partition and are older than `keep_seconds`, but none whose message is a dead letter (it can be
/// redriven) or stands in the outbox unsent (it can be published).
async fn rest(connection: &mut AsyncPgConnection, keep_seconds: f64) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "DELETE FROM bus.inbox_rest WHERE ctid = ANY(ARRAY(SELECT ctid FROM bus.inbox_rest AS old \
           WHERE created_at < now() - make_interval(secs => $1) \
             AND NOT EXISTS (SELECT FROM bus.dead_letters WHERE inbox_key = old.key) \
             AND key NOT IN (SELECT bus.inbox_unsent(make_interval(secs => $1))) \
           LIMIT $2 FOR UPDATE SKIP LOCKED))",
    )
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(ROWS)
    .execute(connection)
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
