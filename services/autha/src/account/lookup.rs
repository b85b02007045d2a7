//! Finding accounts: by name, by address, by id. What is shown of them lives in `person`.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_seal::sha256;
use orrery_store::StoreError;
use uuid::Uuid;

use crate::{
    picture::delivery::Format,
    schema::{accounts, public_keys, tombstones, uploads, variants},
};

/// An account's public side, and its state.
#[derive(Debug, Clone, Queryable, Selectable)]
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
    /// When it was suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it is gone, if it was asked to be deleted.
    pub purge_at: Option<DateTime<Utc>>,
}

/// What a login needs of an account.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = accounts)]
pub struct Candidate {
    /// Its internal id.
    pub id: Uuid,
    /// The name, which is the token's subject.
    pub vanity: String,
}

/// A picture of a profile.
#[derive(Debug)]
pub struct Icon {
    /// The id in its address.
    pub public: Uuid,
    /// Width and height in pixels.
    pub width: i32,
    /// Its format.
    pub format: Format,
}

/// A picture in the bucket.
#[derive(Debug)]
pub struct Stored {
    /// Where it lies; the last part of the key begins with its digest.
    pub object_key: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A public key of a profile.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = public_keys)]
pub struct ShownKey {
    /// Its id.
    pub id: i64,
    /// SPKI.
    pub pem: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

/// Who has a name.
#[derive(Debug)]
pub enum Named {
    /// An account.
    Somebody(Box<Account>),
    /// Nobody any more.
    Deleted,
    /// Nobody.
    Nobody,
}

/// The hash under which a name that was given up is kept.
pub fn name_hash(vanity: &str) -> Vec<u8> {
    sha256(format!("orrery/name/{vanity}").as_bytes())
}

/// Who has that name.
///
/// # Errors
/// When the database refuses.
pub async fn by_vanity(connection: &mut AsyncPgConnection, vanity: &str) -> Result<Named, StoreError> {
    let account: Option<Account> = accounts::table
        .filter(accounts::vanity.eq(vanity))
        .select(Account::as_select())
        .first(connection)
        .await
        .optional()?;
    match account {
        Some(account) if account.purge_at.is_some() => Ok(Named::Deleted),
        Some(account) => Ok(Named::Somebody(Box::new(account))),
        None if is_given_up(connection, vanity).await? => Ok(Named::Deleted),
        None => Ok(Named::Nobody),
    }
}

/// Whether the name was somebody's whose account is gone.
///
/// # Errors
/// When the database refuses.
pub async fn is_given_up(connection: &mut AsyncPgConnection, vanity: &str) -> Result<bool, StoreError> {
    let tombstone = tombstones::table.find(name_hash(vanity)).count();
    Ok(tombstone.get_result::<i64>(connection).await? > 0)
}

/// The account of that id.
///
/// # Errors
/// When the database refuses.
pub async fn by_id(connection: &mut AsyncPgConnection, id: Uuid) -> Result<Option<Account>, StoreError> {
    Ok(accounts::table.find(id).select(Account::as_select()).first(connection).await.optional()?)
}

/// The account of that name, for a login: one that waits to be deleted too.
///
/// # Errors
/// When the database refuses.
pub async fn candidate_by_vanity(
    connection: &mut AsyncPgConnection,
    vanity: &str,
) -> Result<Option<Candidate>, StoreError> {
    Ok(accounts::table
        .filter(accounts::vanity.eq(vanity))
        .select(Candidate::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The account whose address has one of these hashes, for a login.
///
/// # Errors
/// When the database refuses.
pub async fn candidate_by_email(
    connection: &mut AsyncPgConnection,
    hashes: &[Vec<u8>],
) -> Result<Option<Candidate>, StoreError> {
    Ok(accounts::table
        .filter(accounts::email_hash.eq_any(hashes))
        .select(Candidate::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// The pictures of an upload, largest first; of one size WebP before JPEG.
///
/// # Errors
/// When the database refuses.
pub async fn icons(connection: &mut AsyncPgConnection, upload: Uuid) -> Result<Vec<Icon>, StoreError> {
    // No join: kept prepared it could be walked along all rows (decision 23).
    let public: Option<Uuid> =
        uploads::table.find(upload).select(uploads::public).first(connection).await.optional()?;
    let Some(public) = public else { return Ok(Vec::new()) };
    let rows: Vec<(i32, String)> = variants::table
        .filter(variants::upload.eq(upload))
        .order((variants::width.desc(), variants::media_type.desc()))
        .select((variants::width, variants::media_type))
        .load(connection)
        .await?;
    let icon = |(width, media_type): (i32, String)| {
        Some(Icon { public, width, format: Format::of_media_type(&media_type)? })
    };
    Ok(rows.into_iter().filter_map(icon).collect())
}

/// One picture by its public id, if its account is there.
///
/// # Errors
/// When the database refuses.
pub async fn picture(
    connection: &mut AsyncPgConnection,
    public: Uuid,
    width: i32,
    format: Format,
) -> Result<Option<Stored>, StoreError> {
    let upload: Option<Uuid> = uploads::table
        .filter(uploads::public.eq(public))
        .select(uploads::id)
        .first(connection)
        .await
        .optional()?;
    let Some(upload) = upload else { return Ok(None) };
    let row: Option<(String, i64)> = variants::table
        .find((upload, width, format.media_type()))
        .select((variants::object_key, variants::size_bytes))
        .first(connection)
        .await
        .optional()?;
    let stored =
        |(object_key, size_bytes)| Some(Stored { object_key, size_bytes: u64::try_from(size_bytes).ok()? });
    Ok(row.and_then(stored))
}

/// The public keys of an account, oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn keys(connection: &mut AsyncPgConnection, account: Uuid) -> Result<Vec<ShownKey>, StoreError> {
    Ok(public_keys::table
        .filter(public_keys::account.eq(account))
        .order(public_keys::id)
        .select(ShownKey::as_select())
        .load(connection)
        .await?)
}
