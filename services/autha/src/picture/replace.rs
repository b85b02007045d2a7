//! The transactions that make an upload the wanted picture, or take the picture away. The object is written before the row.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, Insertable, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    events::{Changed, ImageUploaded},
    ids::{AccountId, UploadId},
};
use orrery_store::{StoreError, outbox::About};
use uuid::Uuid;

use crate::{
    account::{
        change::{self, Change, Circumstances},
        error::ChangeError,
        update::usable,
    },
    schema::{accounts, uploads},
};

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

/// Makes an upload the wanted picture; one that was waited for is replaced. Where the store itself tells of uploads there is no event of ours.
pub struct ReplaceAvatar {
    /// The upload.
    pub upload: NewUpload,
    /// Whether the outbox tells of it.
    pub is_told: bool,
}

#[async_trait]
impl Change for ReplaceAvatar {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let upload = &self.upload;
        let (id, account) = (upload.upload.0, upload.account.0);
        // What is shown stays as it is until the result comes: nothing to raise the version for.
        let version = usable(change::lock(connection, account).await?)?.version;
        diesel::update(accounts::table.find(account))
            .set(accounts::avatar_upload.eq(id))
            .execute(connection)
            .await?;
        settle_pending(connection, account, with.now).await?;
        diesel::insert_into(uploads::table)
            .values(Row {
                id,
                account,
                object_key: &upload.object_key,
                media_type: upload.media_type,
                size_bytes: i64::try_from(upload.size_bytes).unwrap_or(i64::MAX),
                digest: &upload.digest,
                created_at: with.now,
            })
            .execute(connection)
            .await?;
        if self.is_told {
            let uploaded = ImageUploaded {
                upload: upload.upload,
                key: upload.object_key.clone(),
                size_bytes: upload.size_bytes,
                digest: Some(upload.digest.clone()),
            };
            let about = About { subject: Some(account), version: Some(version), trace: Some(with.trace) };
            with.tools.outbox.event(connection, &uploaded, about).await?;
        }
        Ok(())
    }
}

/// Takes an account's picture away; without one nothing happens.
pub struct RemoveAvatar {
    /// Whose.
    pub account: AccountId,
}

#[async_trait]
impl Change for RemoveAvatar {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let account = usable(change::lock(connection, self.account.0).await?)?;
        let removed = diesel::update(accounts::table.find(account.id))
            .filter(accounts::avatar_upload.is_not_null())
            .set((accounts::avatar_upload.eq(None::<Uuid>), accounts::icon_upload.eq(None::<Uuid>)))
            .execute(connection)
            .await?;
        if removed == 1 {
            settle_pending(connection, account.id, with.now).await?;
            with.changed(connection, account.id, &[Changed::Icon]).await?;
        }
        Ok(())
    }
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
