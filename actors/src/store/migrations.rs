//! The migrations embedded in the binary, and the wait for them. One replica migrates at a time, under a session advisory lock.

use std::time::Duration;

use diesel::{RunQueryDsl, sql_types::BigInt};
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connect::{Connector, ConnectorError};
use crate::config::database::Database;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../migrations");

/// The advisory lock that a migrating replica holds; any number that nobody else uses ("orrery" in ASCII).
const LOCK: i64 = 0x6f72_7265_7279;

/// Why the schema is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Its address cannot be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The database cannot be reached, or refuses the user.
    #[error("the database cannot be reached: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed.
    #[error("a migration failed: {0}")]
    Statement(Box<dyn std::error::Error + Send + Sync>),
    /// The blocking task ended early.
    #[error("the migration ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Brings the database up to this binary's version; returns the names of what was run.
///
/// # Errors
/// When the database is away or refuses a statement. Holds the advisory lock meanwhile.
pub async fn migrate(config: &Database) -> Result<Vec<String>, MigrationError> {
    let connection = Connector::new(config)?.connect().await?;
    tokio::task::spawn_blocking(move || {
        let mut connection = AsyncConnectionWrapper::<AsyncPgConnection>::from(connection);
        diesel::sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(LOCK)
            .execute(&mut connection)
            .map_err(|error| MigrationError::Statement(error.into()))?;
        // The lock is the session's: it goes with the connection, also when a migration fails.
        let versions = connection.run_pending_migrations(MIGRATIONS).map_err(MigrationError::Statement)?;
        Ok(versions.iter().map(ToString::to_string).collect())
    })
    .await?
}

/// The migrations that this binary has and the database lacks.
///
/// # Errors
/// When the database is away or refuses.
pub async fn pending(config: &Database) -> Result<usize, MigrationError> {
    let connector = Connector::new(config)?;
    tokio::time::timeout(config.wait_timeout + config.statement_timeout, async move {
        let connection = connector.connect().await?;
        let task = tokio::task::spawn_blocking(move || {
            let mut harness = AsyncMigrationHarness::new(connection);
            harness.pending_migrations(MIGRATIONS).map(|list| list.len()).map_err(MigrationError::Statement)
        });
        task.await?
    })
    .await
    .unwrap_or_else(|_| Err(MigrationError::Statement("no answer in time".into())))
}

/// Waits until the database has this binary's version, telling `each` try's fault.
pub async fn wait(config: &Database, mut each: impl FnMut(&str)) {
    loop {
        match pending(config).await {
            Ok(0) => return,
            Ok(n) => each(&format!("{n} migrations are pending: run 'orrery migrate'")),
            Err(error) => each(&error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
