//! The migrations embedded in the binary, and the wait for them. One replica migrates at a time, under a session advisory lock.

use std::time::Duration;

use diesel::{
    QueryableByName, RunQueryDsl,
    migration::MigrationSource,
    pg::Pg,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use orrery_config::database::Database;

use super::{
    connect::{Connector, ConnectorError},
    pool::operator,
    session::Session,
};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// The advisory lock that a migrating replica holds; any number that nobody else uses ("orrery" in ASCII).
const LOCK: i64 = 0x6f72_7265_7279;

/// The schema of ours that the table of migrations lies in: others may not be ours to write to.
const OURS: &str = "orrery";

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    exists: bool,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

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
    migrate_to(config, None).await
}

/// The same up to these versions, for what was written by a binary that had no more.
///
/// # Errors
/// As `migrate`.
pub async fn migrate_to(
    config: &Database,
    versions: Option<Vec<String>>,
) -> Result<Vec<String>, MigrationError> {
    let connector = Connector::new(config)?;
    connector.prove_sessions(&operator()).await?;
    // diesel looks for its table along the search path.
    let session = Session::new(
        None,
        format!(
            "SET statement_timeout = 0; SET search_path = {OURS}, pg_catalog; SET application_name = 'orrery'"
        ),
    );
    let connection = connector.connect(&session).await?;
    tokio::task::spawn_blocking(move || {
        let mut connection = AsyncConnectionWrapper::<AsyncPgConnection>::from(connection);
        let fault = |error: diesel::result::Error| MigrationError::Statement(error.into());
        diesel::sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(LOCK)
            .execute(&mut connection)
            .map_err(fault)?;
        // Asked first: to make a schema "if it does not exist" needs the right to make one also where it does.
        let exists: Exists = diesel::sql_query("SELECT to_regnamespace($1) IS NOT NULL AS exists")
            .bind::<Text, _>(OURS)
            .get_result(&mut connection)
            .map_err(fault)?;
        if !exists.exists {
            diesel::sql_query(format!("CREATE SCHEMA {OURS}")).execute(&mut connection).map_err(fault)?;
        }
        // The lock is the session's: it goes with the connection, also when a migration fails.
        let mut done = Vec::new();
        for migration in connection.pending_migrations(MIGRATIONS).map_err(MigrationError::Statement)? {
            let version = migration.name().version().to_string();
            if versions.as_ref().is_none_or(|versions| versions.contains(&version)) {
                connection.run_migration(&*migration).map_err(MigrationError::Statement)?;
                done.push(version);
            }
        }
        Ok(done)
    })
    .await?
}

/// The versions of the migrations that the database has run, in their order.
///
/// # Errors
/// When the database is away or refuses.
pub async fn have_run(config: &Database) -> Result<Vec<String>, MigrationError> {
    let connector = Connector::new(config)?;
    let mut connection = connector.connect(&operator()).await?;
    let mut known = run(&mut connection).await.map_err(|error| MigrationError::Statement(error.into()))?;
    known.sort();
    Ok(known)
}

/// The migrations that this binary has and the database lacks. Changes nothing.
///
/// # Errors
/// When the database is away or refuses, or something before it mixes sessions up.
pub async fn pending(config: &Database) -> Result<usize, MigrationError> {
    let connector = Connector::new(config)?;
    tokio::time::timeout(config.wait_timeout + config.statement_timeout, async move {
        connector.prove_sessions(&operator()).await?;
        let mut connection = connector.connect(&operator()).await?;
        let known = run(&mut connection).await.map_err(|error| MigrationError::Statement(error.into()))?;
        let all = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(MigrationError::Statement)?;
        let is_pending = |version: &str| !known.iter().any(|known| known == version);
        Ok(all.iter().filter(|migration| is_pending(&migration.name().version().to_string())).count())
    })
    .await
    .unwrap_or_else(|_| Err(MigrationError::Statement("no answer in time".into())))
}

/// The versions of the migrations that the database has.
async fn run(connection: &mut AsyncPgConnection) -> diesel::QueryResult<Vec<String>> {
    use diesel_async::RunQueryDsl;
    let table = format!("{OURS}.__diesel_schema_migrations");
    let exists: Exists = RunQueryDsl::get_result(
        diesel::sql_query("SELECT to_regclass($1) IS NOT NULL AS exists").bind::<Text, _>(&table),
        connection,
    )
    .await?;
    if !exists.exists {
        return Ok(Vec::new());
    }
    let versions: Vec<Version> =
        RunQueryDsl::load(diesel::sql_query(format!("SELECT version::text FROM {table}")), connection)
            .await?;
    Ok(versions.into_iter().map(|row| row.version).collect())
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    /// Tables and schemas that a migration makes itself: there nobody is in its way.
    fn made(sql: &str) -> Vec<String> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let named = |pair: &[&str]| {
            words.windows(3).filter(|w| w[..2] == *pair).map(|w| w[2].to_lowercase()).collect()
        };
        let (mut tables, schemas): (Vec<String>, Vec<String>) =
            (named(&["CREATE", "TABLE"]), named(&["CREATE", "SCHEMA"]));
        tables.extend(schemas.iter().map(|schema| format!("{}.", schema.trim_end_matches(';'))));
        tables
    }

    /// What a migration may not do to a table that is in use: docs/decisions/0050.
    fn faults(sql: &str) -> Vec<String> {
        let sql: String = sql
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        let made = made(&sql);
        let mut faults = Vec::new();
        for statement in sql.split(';') {
            let flat = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            let upper = flat.to_uppercase();
            let of = |after: &str| {
                upper.find(after).map(|at| flat[at + after.len()..].trim_start().to_lowercase())
            };
            let is_new = |table: &str| made.iter().any(|made| table.starts_with(made.as_str()));
            let index = of(" ON ")
                .filter(|_| upper.starts_with("CREATE INDEX") || upper.starts_with("CREATE UNIQUE INDEX"));
            if index.is_some_and(|table| !is_new(&table) && !upper.contains("CONCURRENTLY")) {
                faults.push(format!("{flat}: CREATE INDEX without CONCURRENTLY"));
            }
            let Some(table) = of("ALTER TABLE ").filter(|table| !is_new(table)) else { continue };
            if !sql.contains("SET lock_timeout") {
                faults.push(format!("{table}: ALTER TABLE without SET lock_timeout"));
            }
            for word in ["DROP COLUMN", "RENAME", " TYPE ", "SET NOT NULL"] {
                if upper.contains(word) {
                    faults.push(format!("{flat}: {word} breaks the version that still runs"));
                }
            }
        }
        faults
    }

    #[test]
    fn migrations_keep_the_rule() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let files: BTreeMap<_, _> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().join("up.sql"))
            .map(|file| (file.clone(), std::fs::read_to_string(file).unwrap()))
            .collect();
        for (file, sql) in files {
            assert_eq!(faults(&sql), [""; 0], "{}", file.display());
        }
    }

    #[test]
    fn the_rule_knows_what_breaks_it() {
        for (sql, count) in [
            (
                "CREATE SCHEMA a; CREATE TABLE a.t (i int); CREATE INDEX i ON a.t (i); ALTER TABLE a.t ALTER i TYPE text;",
                0,
            ),
            ("CREATE INDEX i ON a.t (i);", 1),
            ("CREATE INDEX CONCURRENTLY i ON a.t (i);", 0),
            ("ALTER TABLE a.t ADD COLUMN x int;", 1),
            ("SET lock_timeout = '2s'; ALTER TABLE a.t ADD COLUMN x int;", 0),
            ("SET lock_timeout = '2s'; ALTER TABLE a.t DROP COLUMN x;", 1),
        ] {
            assert_eq!(faults(sql).len(), count, "{sql}");
        }
    }
}
