//! Log-in: the one transaction that uses a proof up and begins a session. It takes a deletion back that has not happened yet.

use async_trait::async_trait;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    email::{Details, SecondFactorChange, Template},
    events::Changed,
};

use super::{NewSession, begin, list};
use crate::{
    account::{
        change::{self, Change, Circumstances, Locked},
        error::ChangeError,
    },
    config::Verification,
    credential::{
        proof::{Proof, Second},
        store as credentials,
    },
    schema::accounts,
};

/// Begins a session by a proof.
pub struct OpenSession {
    /// Who it is.
    pub proof: Proof,
    /// The session.
    pub session: NewSession,
    /// What the client says it is.
    pub device: Option<String>,
}

/// How a log-in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// There is a session.
    Session,
    /// The address has to be verified first.
    Unverified,
}

#[async_trait]
impl Change for OpenSession {
    type Done = Opened;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Opened, ChangeError> {
        let account = change::lock(connection, self.proof.account).await?.ok_or(ChangeError::Gone)?;
        if account.purge_at.is_some_and(|purge_at| purge_at <= with.now) {
            return Err(ChangeError::Gone);
        }
        self.proof.spend(connection, with.now).await?;
        if account.suspended_at.is_some() {
            return Err(ChangeError::Suspended);
        }
        if with.tools.config.verification == Verification::Require && account.email_verified_at.is_none() {
            return Ok(Opened::Unverified);
        }
        if account.purge_at.is_some() {
            diesel::update(accounts::table.find(account.id))
                .set(accounts::purge_at.eq(None::<chrono::DateTime<chrono::Utc>>))
                .execute(connection)
                .await?;
            with.changed(connection, account.id, &[Changed::State]).await?;
        }
        self.tell(connection, with, &account).await?;
        begin(connection, &self.session, account.id, with.now).await?;
        Ok(Opened::Session)
    }
}

impl OpenSession {
    /// A mail for a device that no session of the account was of before, and one for a recovery code.
    async fn tell(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
        account: &Locked,
    ) -> Result<(), ChangeError> {
        if matches!(self.proof.second, Second::RecoveryCode(_)) {
            let left = credentials::codes_left(connection, account.id).await?;
            let details = Details {
                change: Some(SecondFactorChange::CodeUsed),
                codes_left: u32::try_from(left).ok(),
                device: self.device.clone(),
                ..Details::default()
            };
            with.mail_to(connection, account, Template::SecondFactorChanged, Some(details), None).await?;
        }
        let known = list::devices(connection, &with.tools.vault.devices, account.id).await?;
        let is_new = !known.is_empty() && !known.contains(&self.device);
        if is_new {
            let details = Details { device: self.device.clone(), ..Details::default() };
            with.mail_to(connection, account, Template::Login, Some(details), None).await?;
        }
        Ok(())
    }
}
