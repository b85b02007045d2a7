//! The transactions that make an upload the wanted picture, or take the picture away. The object is written before the row.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_actors::store::{
    StoreError,
    outbox::{About, Outbox},
};
use orrery_schemas::{
    events::{AccountUpdated, Changed, ImageUploaded},
    ids::{AccountId, UploadId},
    trace::TraceParent,
};
use uuid::Uuid;

use crate::schema::{accounts, uploads};

/// An upload whose object is in the bucket.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Its id.
    pub upload: UploadId,
    /// Whose.
    pub account: AccountId,
    /// Where the original lies.
    pub object_key: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its size.
    pub size_bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub digest: String,
    /// The trace of the request.
    pub trace: TraceParent,
    /// The time.
    pub now: DateTime<Utc>,
}

#[derive(Insertable)]
#[diesel(table_name = uploads)]
struct Row<'a> {
    id: Uuid,
    account: Uuid,
    object_key: &'a str,
    media_type: &'a str,
    size_bytes: i64,
    digest: &'a str,
    created_at: DateTime<Utc>,
}

/// Makes the upload the wanted picture; one that was waited for is replaced. Without an outbox it is told by the store itself.
///
/// # Errors
/// When the database refuses. Locks the account's row.
pub async fn replace(
    connection: &mut AsyncPgConnection,
    outbox: Option<&Outbox>,
    upload: &NewUpload,
) -> Result<(), StoreError> {
    let (id, account) = (upload.upload.0, upload.account.0);
    connection
        .transaction::<_, StoreError, _>(async |connection| {
            let version: i64 = diesel::update(accounts::table.find(account))
                .set((accounts::avatar_upload.eq(id), accounts::version.eq(accounts::version + 1)))
                .returning(accounts::version)
                .get_result(connection)
                .await?;
            settle_pending(connection, account, upload.now).await?;
            diesel::insert_into(uploads::table)
                .values(Row {
                    id,
                    account,
                    object_key: &upload.object_key,
                    media_type: upload.media_type,
                    size_bytes: i64::try_from(upload.size_bytes).unwrap_or(i64::MAX),
                    digest: &upload.digest,
                    created_at: upload.now,
                })
                .execute(connection)
                .await?;
            let Some(outbox) = outbox else { return Ok(()) };
            let uploaded = ImageUploaded {
                upload: upload.upload,
                key: upload.object_key.clone(),
                size_bytes: upload.size_bytes,
                digest: Some(upload.digest.clone()),
            };
            let about = About { subject: Some(account), version: Some(version), trace: Some(upload.trace) };
            outbox.event(connection, &uploaded, about).await?;
            Ok(())
        })
        .await
}

/// Takes the picture away; without one nothing happens.
///
/// # Errors
/// When the database refuses. Locks the account's row.
pub async fn remove(
    connection: &mut AsyncPgConnection,
    outbox: &Outbox,
    account: AccountId,
    trace: TraceParent,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    connection
        .transaction::<_, StoreError, _>(async |connection| {
            let version: Option<i64> = diesel::update(accounts::table.find(account.0))
                .filter(accounts::avatar_upload.is_not_null())
                .set((
                    accounts::avatar_upload.eq(None::<Uuid>),
                    accounts::icon_upload.eq(None::<Uuid>),
                    accounts::version.eq(accounts::version + 1),
                ))
                .returning(accounts::version)
                .get_result(connection)
                .await
                .optional()?;
            let Some(version) = version else { return Ok(()) };
            settle_pending(connection, account.0, now).await?;
            let updated = AccountUpdated { account, version, changed: vec![Changed::Icon] };
            let about = About { subject: Some(account.0), version: Some(version), trace: Some(trace) };
            outbox.event(connection, &updated, about).await?;
            Ok(())
        })
        .await
}

async fn settle_pending(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let pending = uploads::table.filter(uploads::account.eq(account)).filter(uploads::state.eq("pending"));
    diesel::update(pending)
        .set((uploads::state.eq("replaced"), uploads::settled_at.eq(now)))
        .execute(connection)
        .await?;
    Ok(())
}
