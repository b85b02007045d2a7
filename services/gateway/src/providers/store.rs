//! Statements about service providers, by the gateway's own role. Who registers them lives in the console.

use std::num::NonZeroU32;

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Integer, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use tracing::warn;
use url::Url;

use super::provider::{Settings, Used};

#[derive(QueryableByName)]
struct Revision {
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Array<Text>)]
    domains: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    upstreams: Vec<String>,
    #[diesel(sql_type = Integer)]
    requests_per_second: i32,
    #[diesel(sql_type = Integer)]
    concurrent: i32,
}

/// The number that grows with each change.
///
/// # Errors
/// When the database refuses.
pub async fn revision(connection: &mut AsyncPgConnection) -> Result<i64, StoreError> {
    let found: Revision =
        diesel::sql_query("SELECT revision FROM providers.revision").get_result(connection).await?;
    Ok(found.revision)
}

/// Every provider, by name. A row that cannot be used is told of and left out: it takes no other one with it.
///
/// # Errors
/// When the database refuses.
pub async fn all(connection: &mut AsyncPgConnection) -> Result<Vec<Settings>, StoreError> {
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT name, upstreams, requests_per_second, concurrent, \
         ARRAY(SELECT domain FROM providers.domains WHERE provider = name ORDER BY domain) AS domains \
         FROM providers.providers ORDER BY name",
    )
    .load(connection)
    .await?;
    let settings = rows.into_iter().filter_map(|row| {
        let name = row.name.clone();
        let settings = usable(row);
        if settings.is_none() {
            warn!(provider = name, "a service provider cannot be used as it is registered: it is left out");
        }
        settings
    });
    Ok(settings.collect())
}

fn usable(row: Row) -> Option<Settings> {
    Some(Settings {
        name: row.name,
        domains: row.domains,
        upstreams: row.upstreams.iter().map(|url| Url::parse(url).ok()).collect::<Option<_>>()?,
        requests_per_second: u32::try_from(row.requests_per_second).ok().and_then(NonZeroU32::new)?,
        concurrent: usize::try_from(row.concurrent).ok().filter(|concurrent| *concurrent > 0)?,
    })
}

/// Adds what a provider used to its day; false where it is there no more.
///
/// # Errors
/// When the database refuses.
pub async fn count(
    connection: &mut AsyncPgConnection,
    provider: &str,
    used: Used,
) -> Result<bool, StoreError> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let rows = diesel::sql_query(
        "INSERT INTO providers.usage AS u (provider, day, requests, successes, failures, refused, bytes_received, bytes_sent) \
         SELECT name, (now() AT TIME ZONE 'UTC')::date, $2, $3, $4, $5, $6, $7 FROM providers.providers WHERE name = $1 \
         ON CONFLICT (provider, day) DO UPDATE SET requests = u.requests + excluded.requests, \
         successes = u.successes + excluded.successes, failures = u.failures + excluded.failures, \
         refused = u.refused + excluded.refused, bytes_received = u.bytes_received + excluded.bytes_received, \
         bytes_sent = u.bytes_sent + excluded.bytes_sent",
    )
    .bind::<Text, _>(provider)
    .bind::<BigInt, _>(number(used.requests))
    .bind::<BigInt, _>(number(used.successes))
    .bind::<BigInt, _>(number(used.failures))
    .bind::<BigInt, _>(number(used.refused))
    .bind::<BigInt, _>(number(used.bytes_received))
    .bind::<BigInt, _>(number(used.bytes_sent))
    .execute(connection)
    .await?;
    Ok(rows > 0)
}
