//! Deletion: asked for, restorable for a time of grace, then one transaction that leaves a tombstone of the name and tells everybody.
//! Emptying the bucket, which is no transaction, lives in `purger`.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, Insertable, QueryDsl, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    email::{self, Details, Template},
    events::{AccountDeleted, Changed},
    ids::AccountId,
};
use orrery_store::{StoreError, outbox::About};
use uuid::Uuid;

use super::{
    change::{self, Change, Circumstances, Locked},
    error::ChangeError,
    lookup,
    mail::written,
};
use crate::{
    challenge::{self, Purpose},
    credential::proof::Proof,
    export, picture,
    schema::{accounts, deletions, tombstones},
    session,
};

/// Asks for an account to be deleted. Its sessions end now, its rows are gone after the grace.
pub struct DeleteAccount {
    /// Whose.
    pub account: Uuid,
    /// What it is allowed by; an operator needs none.
    pub proof: Option<Proof>,
}

#[async_trait]
impl Change for DeleteAccount {
    type Done = DateTime<Utc>;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<DateTime<Utc>, ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        if let Some(purge_at) = account.purge_at {
            return if self.proof.is_none() { Ok(purge_at) } else { Err(ChangeError::Gone) };
        }
        if let Some(proof) = &self.proof {
            proof.spend(connection, with.now).await?;
        }
        let grace = chrono::Duration::from_std(with.tools.config.deletion_grace).unwrap_or_default();
        let purge_at = with.now + grace;
        diesel::update(accounts::table.find(account.id))
            .set(accounts::purge_at.eq(purge_at))
            .execute(connection)
            .await?;
        session::end_all(connection, with, account.id, None).await?;
        for purpose in [Purpose::ChangeAddress, Purpose::Verify] {
            challenge::end(connection, account.id, purpose).await?;
        }
        if !grace.is_zero() {
            let details = Details { until: Some(written(purge_at)), ..Details::default() };
            with.mail_to(connection, &account, Template::DeletionScheduled, Some(details), None).await?;
        }
        with.changed(connection, account.id, &[Changed::State]).await?;
        Ok(purge_at)
    }
}

#[derive(Insertable)]
#[diesel(table_name = deletions)]
struct NewDeletion {
    account: Uuid,
    purged_at: DateTime<Utc>,
    objects: Vec<String>,
}

/// Removes an account whose grace has ended; whether it was still there.
pub struct PurgeAccount {
    /// Which.
    pub account: Uuid,
}

#[async_trait]
impl Change for PurgeAccount {
    type Done = bool;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<bool, ChangeError> {
        let Some(account) = change::lock(connection, self.account).await? else { return Ok(false) };
        // A login may have taken it back meanwhile.
        if account.purge_at.is_none_or(|purge_at| purge_at > with.now) {
            return Ok(false);
        }
        forget_waiting_mail(connection, account.id).await?;
        leave_tombstone(connection, &account.vanity, with.now).await?;
        let objects =
            vec![format!("{}{}/", picture::PREFIX, account.id), format!("{}{}/", export::PREFIX, account.id)];
        diesel::insert_into(deletions::table)
            .values(NewDeletion { account: account.id, purged_at: with.now, objects })
            .on_conflict_do_nothing()
            .execute(connection)
            .await?;
        self.tell(connection, with, &account).await?;
        diesel::delete(accounts::table.find(account.id)).execute(connection).await?;
        Ok(true)
    }
}

impl PurgeAccount {
    async fn tell(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
        account: &Locked,
    ) -> Result<(), ChangeError> {
        with.mail_to(connection, account, Template::DeletionDone, None, None).await?;
        let version = account.version.saturating_add(1);
        let deleted = AccountDeleted { account: AccountId(account.id), version };
        let about = About { subject: Some(account.id), version: Some(version), trace: Some(with.trace) };
        with.tools.outbox.event(connection, &deleted, about).await?;
        Ok(())
    }
}

/// Leaves the name to nobody, for ever.
///
/// # Errors
/// When the database refuses.
pub async fn leave_tombstone(
    connection: &mut AsyncPgConnection,
    vanity: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::insert_into(tombstones::table)
        .values((tombstones::name_hash.eq(lookup::name_hash(vanity)), tombstones::created_at.eq(now)))
        .on_conflict_do_nothing()
        .execute(connection)
        .await?;
    Ok(())
}

/// Mail about the account that the broker has not got yet.
async fn forget_waiting_mail(connection: &mut AsyncPgConnection, account: Uuid) -> Result<(), StoreError> {
    diesel::sql_query(
        "DELETE FROM bus.outbox WHERE producer = 'autha' AND status IN ('pending', 'failed', 'unrouted') \
         AND subject = $1 AND routing_key = $2",
    )
    .bind::<Text, _>(account.to_string())
    .bind::<Text, _>(email::QUEUE)
    .execute(connection)
    .await?;
    Ok(())
}

/// Accounts whose grace has ended, the oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn due(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(accounts::table
        .filter(accounts::purge_at.le(now))
        .order(accounts::purge_at)
        .limit(limit)
        .select(accounts::id)
        .load(connection)
        .await?)
}

/// Deleted accounts whose folders in the bucket are not yet empty.
///
/// # Errors
/// When the database refuses.
pub async fn with_objects(
    connection: &mut AsyncPgConnection,
    limit: i64,
) -> Result<Vec<(Uuid, Vec<String>)>, StoreError> {
    Ok(deletions::table
        .filter(deletions::objects.ne(Vec::<String>::new()))
        .order(deletions::purged_at)
        .limit(limit)
        .select((deletions::account, deletions::objects))
        .load(connection)
        .await?)
}

/// Says that the folders are empty: the last of what autha held is gone.
///
/// # Errors
/// When the database refuses.
pub async fn emptied(connection: &mut AsyncPgConnection, account: Uuid) -> Result<(), StoreError> {
    diesel::update(deletions::table.find(account))
        .set(deletions::objects.eq(Vec::<String>::new()))
        .execute(connection)
        .await?;
    Ok(())
}
