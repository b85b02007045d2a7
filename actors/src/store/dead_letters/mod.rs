//! The table of dead letters. What moves them here lives in `bus::archiver`; `read` and `act` are an operator's.

pub mod act;
pub mod filter;
pub mod read;

use chrono::{DateTime, Utc};
use diesel::Insertable;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use super::{StoreError, schema::dead_letters};
use crate::bus::envelope;
pub use filter::Filter;

/// The headers that a redriven message does not have: what tells of the failure, and to whom copies went.
pub const DROPPED: &[&str] = envelope::DROPPED;

/// A message that failed for good.
#[derive(Debug, Insertable)]
#[diesel(table_name = dead_letters)]
pub struct DeadLetter {
    /// The letter's id.
    pub id: Uuid,
    /// Which handler gave up.
    pub handler: String,
    /// What makes it the same letter when it is delivered again.
    pub letter: String,
    /// The CloudEvents source, where it could be read.
    pub source: Option<String>,
    /// The CloudEvents id, where it could be read.
    pub event_id: Option<String>,
    /// The CloudEvents type, where it could be read.
    pub ty: Option<String>,
    /// Why.
    pub reason: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// When the handler gave up.
    pub failed_at: DateTime<Utc>,
    /// The body's media type.
    pub content_type: Option<String>,
    /// The message's headers, for a redrive.
    pub headers: Value,
    /// The message's body as it came; addresses in it are sealed.
    pub body: Vec<u8>,
}

/// Keeps the letter; the same letter twice is kept once.
///
/// # Errors
/// When the database refuses.
pub async fn insert(connection: &mut AsyncPgConnection, letter: DeadLetter) -> Result<(), StoreError> {
    diesel::insert_into(dead_letters::table)
        .values(letter)
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    Ok(())
}
