//! Finding accounts: by name, by address. What is shown of them lives in `person`.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_actors::store::StoreError;
use uuid::Uuid;

use crate::schema::{accounts, variants};

/// An account's public side.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = accounts)]
pub struct Account {
    /// Its internal id.
    pub id: Uuid,
    /// The name that it is found by.
    pub vanity: String,
    /// The name as it is shown.
    pub username: String,
    /// A few words.
    pub summary: Option<String>,
    /// Bits of no meaning yet, which upstream's clients read.
    pub flags: i32,
    /// The upload whose variants are shown.
    pub icon_upload: Option<Uuid>,
    /// When it came to be.
    pub created_at: DateTime<Utc>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// What a login needs.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = accounts)]
pub struct Credentials {
    /// Its internal id.
    pub id: Uuid,
    /// The name, which is the token's subject.
    pub vanity: String,
    /// PHC string.
    pub password_hash: String,
}

/// A picture of a profile.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = variants)]
pub struct Icon {
    /// Width and height in pixels.
    pub width: i32,
    /// Where it lies.
    pub object_key: String,
    /// Its media type.
    pub media_type: String,
}

/// The account of that name, deleted ones included.
///
/// # Errors
/// When the database refuses.
pub async fn by_vanity(
    connection: &mut AsyncPgConnection,
    vanity: &str,
) -> Result<Option<Account>, StoreError> {
    Ok(accounts::table
        .filter(accounts::vanity.eq(vanity))
        .select(Account::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The credentials of the account of that name.
///
/// # Errors
/// When the database refuses.
pub async fn credentials_by_vanity(
    connection: &mut AsyncPgConnection,
    vanity: &str,
) -> Result<Option<Credentials>, StoreError> {
    Ok(accounts::table
        .filter(accounts::vanity.eq(vanity))
        .filter(accounts::deleted_at.is_null())
        .select(Credentials::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The credentials of the account whose address has one of these hashes.
///
/// # Errors
/// When the database refuses.
pub async fn credentials_by_email(
    connection: &mut AsyncPgConnection,
    hashes: &[Vec<u8>],
) -> Result<Option<Credentials>, StoreError> {
    Ok(accounts::table
        .filter(accounts::email_hash.eq_any(hashes))
        .filter(accounts::deleted_at.is_null())
        .select(Credentials::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The pictures of an upload, largest first.
///
/// # Errors
/// When the database refuses.
pub async fn icons(connection: &mut AsyncPgConnection, upload: Uuid) -> Result<Vec<Icon>, StoreError> {
    Ok(variants::table
        .filter(variants::upload.eq(upload))
        .order(variants::width.desc())
        .select(Icon::as_select())
        .load(connection)
        .await?)
}
