//! Suspension, by an operator: nobody logs in, every session ends, the profile is gone for others. It can be taken back.

use async_trait::async_trait;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    email::{Details, Template},
    events::Changed,
};
use uuid::Uuid;

use super::{
    change::{self, Change, Circumstances},
    error::ChangeError,
};
use crate::{schema::accounts, session};

/// Suspends an account; whether it was not before.
pub struct SuspendAccount {
    /// Which.
    pub account: Uuid,
    /// Why, in words for its owner.
    pub reason: Option<String>,
}

#[async_trait]
impl Change for SuspendAccount {
    type Done = bool;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<bool, ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        if account.suspended_at.is_some() {
            return Ok(false);
        }
        diesel::update(accounts::table.find(account.id))
            .set(accounts::suspended_at.eq(with.now))
            .execute(connection)
            .await?;
        session::end_all(connection, with, account.id, None).await?;
        let details = Details { reason: self.reason.clone(), ..Details::default() };
        with.mail_to(connection, &account, Template::Suspended, Some(details), None).await?;
        with.changed(connection, account.id, &[Changed::State]).await?;
        Ok(true)
    }
}

/// Ends a suspension, or a deletion that waits; whether there was one.
pub struct RestoreAccount {
    /// Which.
    pub account: Uuid,
}

#[async_trait]
impl Change for RestoreAccount {
    type Done = bool;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<bool, ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        if account.suspended_at.is_none() && account.purge_at.is_none() {
            return Ok(false);
        }
        let never = None::<chrono::DateTime<chrono::Utc>>;
        diesel::update(accounts::table.find(account.id))
            .set((accounts::suspended_at.eq(never), accounts::purge_at.eq(never)))
            .execute(connection)
            .await?;
        with.changed(connection, account.id, &[Changed::State]).await?;
        Ok(true)
    }
}
