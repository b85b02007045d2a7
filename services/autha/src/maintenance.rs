//! The maintenance: loads, publishes and rotates signing keys, and prunes what has expired.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Handle, Life, Progress, Tick, clock::Clock};
use uuid::Uuid;

use crate::{
    account::register,
    challenge,
    key::{KeyError, KeySet},
    operator::audit,
    session, throttle,
    token::refresh,
    vault::Vault,
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one statement removes: few enough for the statement's time.
const BATCH: i64 = 1000;
/// Batches of one table at a time; what is left waits for the next look.
const BATCHES: usize = 100;

/// Keeps keys and tables in order.
#[derive(Clone)]
pub struct Maintenance {
    /// Autha's connections.
    pub pool: Pool,
    /// Opens sealed keys.
    pub vault: Arc<Vault>,
    /// What it fills.
    pub keys: KeySet,
    /// This process, among those that publish keys.
    pub replica: Uuid,
    /// How long a key signs.
    pub key_lifetime: Duration,
    /// How long lines of the audit log are kept.
    pub audit_lifetime: Duration,
    /// The time.
    pub clock: Clock,
    /// What it shows of its work.
    pub progress: Progress,
}

impl Actor for Maintenance {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(Duration::ZERO, EVERY);
        Ok(())
    }
}

impl Handle<Tick> for Maintenance {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let maintenance = self.clone();
        async move { Ok(maintenance.keep().await?) }
    }
}

impl Maintenance {
    /// Loads and rotates the keys, and prunes.
    ///
    /// # Errors
    /// When the database is away, or a key cannot be opened.
    async fn keep(&self) -> Result<(), KeyError> {
        let mut connection = self.pool.get().await?;
        self.keys.refresh(&mut connection, &self.vault.signing_keys, self.replica, self.key_lifetime).await?;
        self.prune(&mut connection).await?;
        Ok(())
    }

    async fn prune(&self, connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
        let now = self.clock.now();
        let audit =
            Table::Audit(chrono::Duration::from_std(self.audit_lifetime).unwrap_or(chrono::Duration::MAX));
        let tables =
            [Table::Refresh, Table::Sessions, Table::Answers, Table::Challenges, Table::Throttle, audit];
        for table in tables {
            for _ in 0..BATCHES {
                self.progress.advance();
                let removed = table.prune(connection, now).await?;
                if i64::try_from(removed).unwrap_or(BATCH) < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What is pruned.
#[derive(Clone, Copy)]
enum Table {
    Refresh,
    Sessions,
    Answers,
    Challenges,
    Throttle,
    /// Lines that are older than this.
    Audit(chrono::Duration),
}

impl Table {
    async fn prune(
        self,
        connection: &mut AsyncPgConnection,
        now: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        match self {
            Self::Refresh => refresh::prune(connection, now, BATCH).await,
            Self::Sessions => session::prune(connection, now, BATCH).await,
            Self::Answers => register::prune_answers(connection, now, BATCH).await,
            Self::Challenges => challenge::prune(connection, now, BATCH).await,
            Self::Throttle => throttle::prune(connection, BATCH).await,
            Self::Audit(kept) => audit::prune(connection, now - kept, BATCH).await,
        }
    }
}
