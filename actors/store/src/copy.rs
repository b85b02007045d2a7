//! All tables of ours as streams, out of one snapshot and into an empty database. Where the streams go, and what lies beside the tables, is the caller's.
//! The schema is not copied: the migrations make it, up to the version of the copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::AsyncPgConnection;
use futures_util::SinkExt;
use orrery_config::database::Database;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, CopyInSink, CopyOutStream};

use super::{
    StoreError,
    connect::{Connector, ConnectorError},
};

/// The advisory lock that a copy holds while it is made ("backup" in ASCII).
const LOCK: i64 = 0x6261_636b_7570;

/// Nothing here may be cut off by a limit that is inherited; texts are the same whatever the server's defaults are.
const SETTINGS: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'; \
    SET search_path = pg_catalog; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; \
    SET client_encoding = 'UTF8'; SET synchronous_commit = on; SET application_name = 'orrery-copy'";

/// Who else is connected.
const OTHERS: &str = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
    AND application_name LIKE 'orrery%' ORDER BY 1 LIMIT 1";
/// How long a connection that was closed may be seen, and how often it is looked for.
const LEAVING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(200);

/// Schemas of ours, whatever made them.
const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'public')";

/// Which migrations have run tells the copy's head; everything else is copied. What is not logged PostgreSQL itself forgets after a crash.
const TABLES: &str = "SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relpersistence = 'u', \
    (SELECT string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> '__diesel_schema_migrations' AND ";

/// Why tables were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The address cannot be used.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The database cannot be reached.
    #[error("the database cannot be reached: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed.
    #[error("the database failed: {}", told(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// Tables refer to each other in a circle, so none could be filled first.
    #[error("{0} and other tables refer to each other in a circle")]
    Circle(String),
    /// Somebody else makes a copy, or fills the database.
    #[error("another backup or restore is under way")]
    Busy,
    /// Somebody works with the database.
    #[error("{0} is connected to the database: stop every service first")]
    InUse(String),
    /// There is something that would be lost.
    #[error("{table} has rows: a backup is restored into an empty system only")]
    NotEmpty {
        /// The table.
        table: String,
    },
}

/// What the server says beside what the library says.
fn told(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| format!("{}: {}", error.severity(), error.message()))
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its schema and name, as they are written in SQL.
    pub name: String,
    /// Its columns, as they are written in SQL.
    pub columns: String,
}

/// A sequence and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its schema and name, as they are written in SQL.
    pub name: String,
    /// The last value that it gave.
    pub last: i64,
}

/// One snapshot of the database.
pub struct Snapshot(Client);

impl Snapshot {
    /// Takes it. While it lives nobody else takes one, and no object that it names is swept away.
    ///
    /// # Errors
    /// `Busy` when there is another one; when the database is away or refuses.
    pub async fn take(config: &Database) -> Result<Self, CopyError> {
        let client = exclusive(config).await?;
        // It begins with the first query.
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_current_snapshot()")
            .await?;
        Ok(Self(client))
    }

    /// The tables, each behind those that it refers to.
    ///
    /// # Errors
    /// `Circle`; when the database refuses.
    pub async fn tables(&self) -> Result<Vec<Table>, CopyError> {
        let (logged, _) = tables(&self.0).await?;
        Ok(logged)
    }

    /// The rows of a table, in PostgreSQL's text format: each ends with a line feed, and no other one stands in them.
    ///
    /// # Errors
    /// When the database refuses; the stream tells what breaks later.
    pub async fn rows(&self, table: &Table) -> Result<CopyOutStream, CopyError> {
        // By a query: of a partitioned table there is no other way.
        Ok(self.0.copy_out(&format!("COPY (SELECT {} FROM {}) TO STDOUT", table.columns, table.name)).await?)
    }

    /// Where sequences are: at least where the snapshot's rows have them, since they know no transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn sequences(&self) -> Result<Vec<Sequence>, CopyError> {
        let sql = format!(
            "SELECT format('%I.%I', n.nspname, s.sequencename), s.last_value FROM pg_sequences s \
             JOIN pg_namespace n ON n.nspname = s.schemaname WHERE s.last_value IS NOT NULL AND {OURS} ORDER BY 1"
        );
        let rows = self.0.query(&sql, &[]).await?;
        Ok(rows.iter().map(|row| Sequence { name: row.get(0), last: row.get(1) }).collect())
    }
}

/// One transaction that fills an empty database. Dropped without `commit` it changes nothing.
pub struct Filling(Client);

impl Filling {
    /// Begins it: every table is empty afterwards.
    ///
    /// # Errors
    /// `Busy`, `InUse`; `NotEmpty` when one of `witnesses` has rows; when the database is away or refuses.
    pub async fn begin(config: &Database, witnesses: &[&str]) -> Result<Self, CopyError> {
        let client = exclusive(config).await?;
        alone(&client).await?;
        client.batch_execute("BEGIN").await?;
        let (logged, unlogged) = tables(&client).await?;
        for table in witnesses.iter().filter(|witness| logged.iter().any(|table| table.name == **witness)) {
            let any = client.query_one(&format!("SELECT EXISTS (SELECT FROM {table})"), &[]).await?;
            if any.get(0) {
                return Err(CopyError::NotEmpty { table: (*table).to_owned() });
            }
        }
        let names: Vec<&str> = logged.iter().chain(&unlogged).map(|table| table.name.as_str()).collect();
        if !names.is_empty() {
            client.batch_execute(&format!("TRUNCATE {} RESTART IDENTITY", names.join(", "))).await?;
        }
        Ok(Self(client))
    }

    /// Takes the rows of a table, in the order of `Snapshot::tables`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rows(&self, table: &Table) -> Result<Rows, CopyError> {
        let sink = self.0.copy_in(&format!("COPY {} ({}) FROM STDIN", table.name, table.columns)).await?;
        Ok(Rows(Box::pin(sink)))
    }

    /// Sets a sequence.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn sequence(&self, sequence: &Sequence) -> Result<(), CopyError> {
        self.0.query_one("SELECT setval($1::text::regclass, $2)", &[&sequence.name, &sequence.last]).await?;
        Ok(())
    }

    /// Makes it hold, and tells the planner what the tables are like now.
    ///
    /// # Errors
    /// When the database refuses: then nothing was changed.
    pub async fn commit(self) -> Result<(), CopyError> {
        self.0.batch_execute("COMMIT").await?;
        self.0.batch_execute("ANALYZE").await?;
        Ok(())
    }
}

/// The rows of one table on their way in.
pub struct Rows(Pin<Box<CopyInSink<Bytes>>>);

impl Rows {
    /// More of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), CopyError> {
        Ok(self.0.send(bytes).await?)
    }

    /// Ends them, and says how many there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish(mut self) -> Result<u64, CopyError> {
        Ok(self.0.as_mut().finish().await?)
    }
}

/// Whether a snapshot is being copied just now.
///
/// # Errors
/// When the database refuses.
pub async fn is_under_way(connection: &mut AsyncPgConnection) -> Result<bool, StoreError> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = Bool)]
        held: bool,
    }
    let (high, low) = (LOCK >> 32, LOCK & 0xffff_ffff);
    let asked = diesel::sql_query(format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = {high} AND objid = {low} \
         AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AND granted) AS held"
    ));
    let held: Held = diesel_async::RunQueryDsl::get_result(asked, connection).await?;
    Ok(held.held)
}

/// A connection that holds the lock for as long as it lives.
async fn exclusive(config: &Database) -> Result<Client, CopyError> {
    let client = Connector::new(config)?.client(SETTINGS).await?;
    let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
    if locked.get(0) { Ok(client) } else { Err(CopyError::Busy) }
}

/// Waits until nobody of ours is connected but who asks: the server learns a moment later that a connection was closed.
async fn alone(client: &Client) -> Result<(), CopyError> {
    let until = Instant::now() + LEAVING;
    loop {
        let other = client.query_opt(OTHERS, &[]).await?;
        match other {
            None => return Ok(()),
            Some(other) if Instant::now() > until => return Err(CopyError::InUse(other.get(0))),
            Some(_) => sleep(AGAIN).await,
        }
    }
}

/// The tables whose rows outlive a crash, each behind those that it refers to; and the others.
async fn tables(client: &Client) -> Result<(Vec<Table>, Vec<Table>), CopyError> {
    let (mut logged, mut unlogged) = (BTreeMap::new(), Vec::new());
    for row in client.query(&format!("{TABLES}{OURS} ORDER BY 2"), &[]).await? {
        let table = Table { name: row.get(1), columns: row.get(3) };
        if row.get(2) {
            unlogged.push(table);
        } else {
            logged.insert(row.get::<_, u32>(0), table);
        }
    }
    let mut refers: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let constraints = "SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid AND conparentid = 0";
    for row in client.query(constraints, &[]).await? {
        refers.entry(row.get(0)).or_default().insert(row.get(1));
    }
    Ok((in_order(logged, &refers)?, unlogged))
}

/// Puts each table behind those that it refers to; otherwise by name.
fn in_order(
    mut left: BTreeMap<u32, Table>,
    refers: &BTreeMap<u32, BTreeSet<u32>>,
) -> Result<Vec<Table>, CopyError> {
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let is_free = |id: &u32| refers.get(id).is_none_or(|to| to.iter().all(|to| !left.contains_key(to)));
        let mut free: Vec<u32> = left.keys().copied().filter(is_free).collect();
        if free.is_empty() {
            let first = left.into_values().next().map(|table| table.name);
            return Err(CopyError::Circle(first.unwrap_or_default()));
        }
        free.sort_by(|a, b| left.get(a).map(|table| &table.name).cmp(&left.get(b).map(|table| &table.name)));
        ordered.extend(free.iter().filter_map(|id| left.remove(id)));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[(u32, &str)]) -> BTreeMap<u32, Table> {
        let table = |name: &str| Table { name: name.to_owned(), columns: "id".to_owned() };
        names.iter().map(|(id, name)| (*id, table(name))).collect()
    }

    #[test]
    fn a_table_comes_behind_those_that_it_refers_to() {
        let refers = BTreeMap::from([(1, BTreeSet::from([2, 3])), (2, BTreeSet::from([3, 99]))]);
        let order = in_order(named(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), &refers).unwrap();
        assert_eq!(order.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["c", "d", "b", "a"]);
    }

    #[test]
    fn a_circle_is_told() {
        let refers = BTreeMap::from([(1, BTreeSet::from([2])), (2, BTreeSet::from([1]))]);
        assert!(matches!(in_order(named(&[(1, "a"), (2, "b")]), &refers), Err(CopyError::Circle(_))));
    }
}
