//! The console's audit log: who did what. A line is written before a thing is done, and how it ended after it; what cannot be written down is not done.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use orrery_supervise::{clock::Clock, random::Random};
use serde::Serialize;
use uuid::Uuid;

/// The way in which somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// The pages and their JSON.
    Console,
    /// The command line.
    CommandLine,
}

impl Face {
    const fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::CommandLine => "cli",
        }
    }
}

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// A name for the log.
    pub name: String,
    /// How.
    pub face: Face,
}

/// A line of the log.
#[derive(Debug, Clone, Serialize, QueryableByName)]
pub struct Line {
    /// Its id, by which the next page is asked for.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// When it was begun.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
    /// Who.
    #[diesel(sql_type = Text)]
    pub actor: String,
    /// How: console or cli.
    #[diesel(sql_type = Text)]
    pub face: String,
    /// What.
    #[diesel(sql_type = Text)]
    pub action: String,
    /// To what.
    #[diesel(sql_type = Text)]
    pub target: String,
    /// How it ended.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
}

/// Writes that somebody begins something; the id is the line's.
///
/// # Errors
/// When the database refuses: then it is not to be done.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    random: &Random,
    actor: &Actor,
    action: &str,
    target: &str,
) -> Result<Uuid, StoreError> {
    let id = random.uuid_v7(&Clock::System);
    diesel::sql_query(
        "INSERT INTO console.audit (id, actor, face, action, target) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(storable(&actor.name))
    .bind::<Text, _>(actor.face.name())
    .bind::<Text, _>(action)
    .bind::<Text, _>(storable(target))
    .execute(connection)
    .await?;
    Ok(id)
}

/// Writes how it ended.
///
/// # Errors
/// When the database refuses.
pub async fn end(connection: &mut AsyncPgConnection, id: Uuid, outcome: &str) -> Result<(), StoreError> {
    diesel::sql_query("UPDATE console.audit SET outcome = $2, finished_at = now() WHERE id = $1")
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(storable(outcome))
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
        "SELECT id, at, actor, face, action, target, outcome, finished_at FROM console.audit \
         WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
    )
    .bind::<Nullable<SqlUuid>, _>(before)
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?)
}

/// Removes lines older than `seconds`, and sessions that are over, some at a time.
///
/// # Errors
/// When the database refuses.
pub async fn prune(connection: &mut AsyncPgConnection, seconds: f64) -> Result<(), StoreError> {
    diesel::sql_query(
        "DELETE FROM console.audit WHERE id IN (SELECT id FROM console.audit WHERE at < now() - make_interval(secs => $1) LIMIT 1000)",
    )
    .bind::<Double, _>(seconds)
    .execute(connection)
    .await?;
    diesel::sql_query("DELETE FROM console.sessions WHERE expires_at < now() - interval '1 day'")
        .execute(connection)
        .await?;
    Ok(())
}

/// PostgreSQL has no place for a NUL, and a line need not be long.
fn storable(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(2000).collect()
}
