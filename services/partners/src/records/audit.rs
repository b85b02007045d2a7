//! The audit log of third parties: which operator did what, written in the transaction of what was done. What operators do in the console is in the console's.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use orrery_store::StoreError;
use serde::Serialize;
use uuid::Uuid;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Whoever runs the command, by the name that the system knows.
    CommandLine(String),
    /// An operator's client over HTTP, by its client id.
    Client(String),
}

impl Actor {
    fn text(&self) -> String {
        match self {
            Self::CommandLine(name) => format!("cli:{}", storable(name)),
            Self::Client(name) => format!("client:{name}"),
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Line {
    /// Its id, by which the next page is asked for.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// When.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    /// Who.
    #[diesel(sql_type = Text)]
    pub actor: String,
    /// What, such as `partner.create`.
    #[diesel(sql_type = Text)]
    pub action: String,
    /// To what.
    #[diesel(sql_type = Text)]
    pub target: String,
    /// What else there is to say.
    #[diesel(sql_type = Nullable<Text>)]
    pub detail: Option<String>,
}

/// Writes a line under this id.
///
/// # Errors
/// When the database refuses: then the act is not to be done.
pub async fn write(
    connection: &mut AsyncPgConnection,
    id: Uuid,
    actor: &Actor,
    action: &str,
    target: &str,
    detail: Option<String>,
) -> Result<(), StoreError> {
    diesel::sql_query(
        "INSERT INTO partners.audit (id, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(actor.text())
    .bind::<Text, _>(action)
    .bind::<Text, _>(target)
    .bind::<Nullable<Text>, _>(detail)
    .execute(connection)
    .await?;
    Ok(())
}

/// A page, the newest first; `before` is the last id of the page before.
///
/// # Errors
/// When the database refuses.
pub async fn page(
    connection: &mut AsyncPgConnection,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Line>, StoreError> {
    Ok(diesel::sql_query(
        "SELECT id, at, actor, action, target, detail FROM partners.audit WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
    )
    .bind::<Nullable<SqlUuid>, _>(before)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// Removes up to `limit` lines that are older than `keep_seconds`.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    keep_seconds: f64,
    limit: i64,
) -> Result<usize, StoreError> {
    Ok(diesel::sql_query(
        "DELETE FROM partners.audit WHERE id IN (SELECT id FROM partners.audit \
         WHERE at < now() - make_interval(secs => $1) ORDER BY at LIMIT $2)",
    )
    .bind::<Double, _>(keep_seconds)
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}

/// PostgreSQL has no place for a NUL, and a name need not be long.
fn storable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(200).collect()
}
