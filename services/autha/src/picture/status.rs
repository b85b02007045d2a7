//! What an uploader sees of an upload.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::ids::{AccountId, UploadId};
use orrery_store::StoreError;
use serde::Serialize;
use uuid::Uuid;

use crate::schema::uploads;

/// An upload's state.
#[derive(Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = uploads)]
pub struct Status {
    /// Its id.
    pub id: Uuid,
    /// `pending`, `done`, `rejected` or `replaced`.
    #[diesel(column_name = state)]
    pub status: String,
    /// Why it was rejected: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was rejected, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// When it was done with.
    pub settled_at: Option<DateTime<Utc>>,
}

/// The state of an upload of that account.
///
/// # Errors
/// When the database refuses.
pub async fn status(
    connection: &mut AsyncPgConnection,
    account: AccountId,
    upload: UploadId,
) -> Result<Option<Status>, StoreError> {
    Ok(uploads::table
        .find(upload.0)
        .filter(uploads::account.eq(account.0))
        .select(Status::as_select())
        .first(connection)
        .await
        .optional()?)
}
