//! What a person changes of their own account: one transaction, one raise of the version, whatever of it is asked for at once.

use async_trait::async_trait;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    address::Address,
    email::{Details, Template},
    events::Changed,
};
use oxilangtag::LanguageTag;
use uuid::Uuid;

use super::{
    address,
    change::{self, Change, Circumstances, Locked},
    error::ChangeError,
    keys::{self, KeyChange},
};
use crate::{
    challenge::{self, Purpose},
    credential::{
        proof::Proof,
        second_factor::{self, FactorChange},
        store as credentials,
    },
    schema::accounts,
    session::{self, principal::Principal},
};

/// Longest name and summary, in characters.
pub const LONGEST_NAME: usize = 64;
pub const LONGEST_SUMMARY: usize = 1000;

/// A well-formed language tag of RFC 5646, in its customary case; the longest that the standard asks for has 35 characters.
pub fn language_tag(text: &str) -> Option<String> {
    let tag = LanguageTag::parse_and_normalize(text).ok().filter(|_| text.len() <= 35)?;
    Some(tag.into_inner())
}

/// Changes an account.
pub struct UpdateAccount {
    /// Whose.
    pub account: Uuid,
    /// The session that asks, which goes on when a new password ends the others.
    pub session: Uuid,
    /// What the dangerous ones of the changes below are allowed by.
    pub proof: Option<Proof>,
    /// The name that is shown.
    pub username: Option<String>,
    /// A few words; empty for none.
    pub summary: Option<String>,
    /// The language.
    pub locale: Option<String>,
    /// Public keys to add and to remove.
    pub keys: Vec<KeyChange>,
    /// What becomes of TOTP.
    pub factor: Option<FactorChange>,
    /// The hash of a new password.
    pub password_hash: Option<String>,
    /// A new address, which is asked by mail.
    pub address: Option<Address>,
    /// What the client says it is.
    pub device: Option<String>,
}

impl UpdateAccount {
    /// A change of nothing yet.
    pub fn of(principal: &Principal, device: Option<String>) -> Self {
        Self {
            account: principal.account.id,
            session: principal.session,
            proof: None,
            username: None,
            summary: None,
            locale: None,
            keys: Vec::new(),
            factor: None,
            password_hash: None,
            address: None,
            device,
        }
    }
}

/// What was changed.
#[derive(Debug, Default)]
pub struct Updated {
    /// The ids of the keys that were added.
    pub keys: Vec<i64>,
    /// New recovery codes, shown once.
    pub recovery_codes: Vec<String>,
}

#[async_trait]
impl Change for UpdateAccount {
    type Done = Updated;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Updated, ChangeError> {
        let account = usable(change::lock(connection, self.account).await?)?;
        let mut updated = Updated::default();
        let mut changed = Vec::new();
        if let Some(proof) = &self.proof {
            proof.spend(connection, with.now).await?;
        }
        self.profile(connection, &account, &mut changed).await?;
        if !self.keys.is_empty() {
            let done = keys::apply(connection, account.id, &self.keys, with.now).await?;
            updated.keys = done.added;
            if done.is_changed {
                changed.push(Changed::PublicKeys);
            }
        }
        if let Some(factor) = &self.factor {
            updated.recovery_codes =
                second_factor::apply(connection, with, &account, factor, self.device.as_deref()).await?;
            changed.push(Changed::SecondFactor);
        }
        if let Some(hash) = &self.password_hash {
            let id = with.tools.random.uuid_v7(&with.tools.clock);
            credentials::set_password(connection, (id, account.id), hash, with.now).await?;
            session::end_all(connection, with, account.id, Some(self.session)).await?;
            challenge::end(connection, account.id, Purpose::Recover).await?;
            let details = Details { device: self.device.clone(), ..Details::default() };
            with.mail_to(connection, &account, Template::PasswordChanged, Some(details), None).await?;
            changed.push(Changed::Password);
        }
        if let Some(address) = &self.address {
            address::ask(connection, with, &account, address).await?;
        }
        if !changed.is_empty() {
            with.changed(connection, account.id, &changed).await?;
        }
        Ok(updated)
    }
}

impl UpdateAccount {
    async fn profile(
        &self,
        connection: &mut AsyncPgConnection,
        account: &Locked,
        changed: &mut Vec<Changed>,
    ) -> Result<(), ChangeError> {
        let row = accounts::table.find(account.id);
        if let Some(username) = self.username.as_ref().filter(|username| **username != account.username) {
            diesel::update(row).set(accounts::username.eq(username)).execute(connection).await?;
            changed.push(Changed::Username);
        }
        if let Some(summary) = &self.summary {
            let summary = Some(summary.as_str()).filter(|summary| !summary.is_empty());
            if summary != account.summary.as_deref() {
                diesel::update(row).set(accounts::summary.eq(summary)).execute(connection).await?;
                changed.push(Changed::Summary);
            }
        }
        if let Some(locale) = self.locale.as_ref().filter(|locale| **locale != account.locale) {
            diesel::update(row).set(accounts::locale.eq(locale)).execute(connection).await?;
            changed.push(Changed::Locale);
        }
        Ok(())
    }
}

/// The account, if it is neither gone nor suspended.
///
/// # Errors
/// Which of both it is.
pub fn usable(account: Option<Locked>) -> Result<Locked, ChangeError> {
    let account = account.filter(|account| account.purge_at.is_none()).ok_or(ChangeError::Gone)?;
    if account.suspended_at.is_some() { Err(ChangeError::Suspended) } else { Ok(account) }
}
