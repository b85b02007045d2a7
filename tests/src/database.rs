//! A database per test, and the questions that tests ask it directly, past the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::deadline::eventually;
use crate::{environment, fresh, teardown};

/// A database of the test's own; dropping it drops the database, whoever is still connected.
pub struct Database {
    admin: Url,
    url: Url,
    name: String,
    /// Opened by the first question; a failed question closes it.
    connection: Mutex<Option<AsyncPgConnection>>,
}

#[derive(QueryableByName)]
struct TextCell {
    #[diesel(sql_type = Nullable<Text>)]
    value: Option<String>,
}

#[derive(QueryableByName)]
struct CountCell {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl Database {
    /// Makes an empty database on the server that `TEST_DATABASE_URL` names (as a superuser).
    ///
    /// # Errors
    /// The variable is missing, or the server refuses.
    pub async fn create() -> Result<Self> {
        Self::create_on(&environment::url("TEST_DATABASE_URL")?).await
    }

    /// The same on another server.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create_on(admin: &Url) -> Result<Self> {
        let admin = admin.clone();
        let name = format!("orrery_test_{}", fresh::uuid().simple());
        // template0 has no connections, so tests that start at once do not wait for each other.
        run(&admin, &format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
        let mut url = admin.clone();
        url.set_path(&name);
        Ok(Self { admin, url, name, connection: Mutex::new(None) })
    }

    /// The database's name on its server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL that leads to it directly.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The server's address, for a proxy to stand before.
    ///
    /// # Errors
    /// Its name does not resolve.
    pub async fn address(&self) -> Result<SocketAddr> {
        environment::address(&self.url, 5432).await
    }

    /// Waits until `handler` is done with exactly `count` messages.
    ///
    /// # Errors
    /// It is not within `deadline`.
    pub async fn wait_done(&self, handler: &str, count: i64, deadline: Duration) -> Result<()> {
        let sql =
            format!("SELECT count(*) FROM bus.inbox WHERE handler = '{handler}' AND done_at IS NOT NULL");
        eventually(deadline, "the messages are done", async || {
            (self.count(&sql).await.ok()? == count).then_some(())
        })
        .await
    }

    /// The URL that leads to it through a proxy, which has to understand what passes: without TLS.
    ///
    /// # Errors
    /// The URL cannot be changed.
    pub fn url_through(&self, proxy: SocketAddr) -> Result<String> {
        let mut url = environment::through(&self.url, proxy)?;
        url.query_pairs_mut().append_pair("sslmode", "disable");
        Ok(url.into())
    }

    /// The one number that `sql` selects, e.g. `SELECT count(*) FROM autha.accounts`.
    ///
    /// # Errors
    /// PostgreSQL refuses the query, or it gives none.
    pub async fn count(&self, sql: &str) -> Result<i64> {
        let rows: Vec<CountCell> = self.load(format!("SELECT ({sql})::bigint AS value"), sql).await?;
        Ok(rows.into_iter().next().with_context(|| format!("no row from {sql}"))?.value)
    }

    /// The one value that `sql` selects, as text; `None` for no row or NULL.
    ///
    /// # Errors
    /// PostgreSQL refuses the query.
    pub async fn text(&self, sql: &str) -> Result<Option<String>> {
        let rows: Vec<TextCell> = self.load(format!("SELECT ({sql})::text AS value"), sql).await?;
        Ok(rows.into_iter().next().and_then(|cell| cell.value))
    }

    /// All rows that `sql` selects, each an object by column name.
    ///
    /// # Errors
    /// PostgreSQL refuses the query.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let query = format!("SELECT row_to_json(answer)::text AS value FROM ({sql}) AS answer");
        let rows: Vec<TextCell> = self.load(query, sql).await?;
        rows.iter()
            .filter_map(|cell| cell.value.as_deref())
            .map(|row| serde_json::from_str(row).context("reading a row"))
            .collect()
    }

    /// Runs one or more statements and forgets what they select.
    ///
    /// # Errors
    /// PostgreSQL refuses one of them.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut slot = self.connection.lock().await;
        let mut connection = self.connection(slot.take()).await?;
        connection.batch_execute(sql).await.with_context(|| format!("running {sql}"))?;
        *slot = Some(connection);
        Ok(())
    }

    /// A connection of the test's own, for transactions and locks that it wants to hold.
    ///
    /// # Errors
    /// PostgreSQL refuses it.
    pub async fn connect(&self) -> Result<AsyncPgConnection> {
        self.connection(None).await
    }

    async fn connection(&self, open: Option<AsyncPgConnection>) -> Result<AsyncPgConnection> {
        match open {
            Some(connection) => Ok(connection),
            None => {
                AsyncPgConnection::establish(self.url()).await.context("connecting to the test's database")
            }
        }
    }

    async fn load<T>(&self, query: String, sql: &str) -> Result<Vec<T>>
    where
        T: QueryableByName<diesel::pg::Pg> + Send + 'static,
    {
        let mut slot = self.connection.lock().await;
        let mut connection = self.connection(slot.take()).await?;
        let rows = diesel::sql_query(query).load(&mut connection).await;
        let rows = rows.with_context(|| format!("asking {sql}"))?;
        *slot = Some(connection);
        Ok(rows)
    }
}

/// Whether the database at `url` has dead letters; none where it has no table for them.
///
/// # Errors
/// It cannot be asked.
pub(crate) async fn has_dead_letters(url: &str) -> Result<bool> {
    let mut connection = AsyncPgConnection::establish(url).await?;
    let table = "SELECT count(*) AS value FROM pg_class WHERE oid = to_regclass('bus.dead_letters')";
    let table: CountCell = diesel::sql_query(table).get_result(&mut connection).await?;
    if table.value == 0 {
        return Ok(false);
    }
    let letters = "SELECT count(*) AS value FROM (SELECT FROM bus.dead_letters LIMIT 1) AS letters";
    let letters: CountCell = diesel::sql_query(letters).get_result(&mut connection).await?;
    Ok(letters.value > 0)
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let admin = self.admin.clone();
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        teardown::finish(&format!("database {}", self.name), async move { run(&admin, &drop).await });
    }
}

/// Whether the server that `TEST_DATABASE_URL` names has a database of this name.
///
/// # Errors
/// The variable is missing, or the server cannot be asked.
pub async fn exists(name: &str) -> Result<bool> {
    let admin = environment::url("TEST_DATABASE_URL")?;
    let mut connection = AsyncPgConnection::establish(admin.as_str()).await?;
    let query = "SELECT count(*) AS value FROM pg_database WHERE datname = $1";
    let found: CountCell = diesel::sql_query(query).bind::<Text, _>(name).get_result(&mut connection).await?;
    Ok(found.value > 0)
}

async fn run(url: &Url, sql: &str) -> Result<()> {
    let mut connection =
        AsyncPgConnection::establish(url.as_str()).await.context("connecting to the database server")?;
    connection.batch_execute(sql).await.with_context(|| format!("running {sql}"))
}
