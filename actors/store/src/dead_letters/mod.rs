//! The table of dead letters. What moves them here lives in `orrery_bus::archiver`; `read` and `act` are an operator's.

pub mod act;
pub mod filter;
pub mod read;
mod storable;

use chrono::{DateTime, Utc};
use diesel::Insertable;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use super::{StoreError, inbox, schema::dead_letters};

pub use filter::Filter;
use storable::text;

pub use orrery_schemas::topology::header::DROPPED;

/// Characters of a name that others chose, and of a reason; more are cut off.
const NAME_CHARS: usize = 1024;
const REASON_CHARS: usize = 8192;
/// Causes that are kept.
const CAUSES: usize = 64;

/// A message that failed for good, as it came. What cannot be stored of it is made storable by `insert`.
#[derive(Debug)]
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

#[derive(Insertable)]
#[diesel(table_name = dead_letters)]
struct NewRow {
    id: Uuid,
    handler: String,
    letter: String,
    inbox_key: Option<Uuid>,
    source: Option<String>,
    event_id: Option<String>,
    ty: Option<String>,
    reason: String,
    causes: Vec<String>,
    attempts: i32,
    trace_id: Option<String>,
    failed_at: DateTime<Utc>,
    content_type: Option<String>,
    headers: Value,
    body: Vec<u8>,
}

impl From<DeadLetter> for NewRow {
    fn from(letter: DeadLetter) -> Self {
        let known = letter.source.as_deref().zip(letter.event_id.as_deref());
        Self {
            id: letter.id,
            inbox_key: known.map(|(source, id)| inbox::digest(&letter.handler, source, id)),
            handler: text(&letter.handler, NAME_CHARS),
            letter: storable::key(&letter.letter),
            source: letter.source.map(|source| text(&source, NAME_CHARS)),
            event_id: letter.event_id.map(|id| text(&id, NAME_CHARS)),
            ty: letter.ty.map(|ty| text(&ty, NAME_CHARS)),
            reason: text(&letter.reason, REASON_CHARS),
            causes: letter.causes.iter().take(CAUSES).map(|cause| text(cause, REASON_CHARS)).collect(),
            attempts: letter.attempts,
            trace_id: letter.trace_id.map(|trace| text(&trace, NAME_CHARS)),
            failed_at: letter.failed_at,
            content_type: letter.content_type.map(|ty| text(&ty, NAME_CHARS)),
            headers: storable::json(letter.headers),
            body: letter.body,
        }
    }
}

/// Keeps the letter; the same letter twice is kept once, and so is one message of a handler that failed twice. Of what others wrote, whatever is too long or has no
/// place in PostgreSQL is cut or replaced; the body stays as it came.
///
/// # Errors
/// When the database refuses.
pub async fn insert(connection: &mut AsyncPgConnection, letter: DeadLetter) -> Result<(), StoreError> {
    diesel::insert_into(dead_letters::table)
        .values(NewRow::from(letter))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    Ok(())
}
