//! Recovery by mail: a link that sets a new password once. Every session ends by it, and a second factor stays asked for.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use orrery_schemas::{
    email::{Details, Template},
    events::Changed,
};
use orrery_store::StoreError;
use uuid::Uuid;

use super::{
    address,
    change::{self, Change, Circumstances},
    error::ChangeError,
    links::Links,
    lookup,
    mail::Link,
    update::usable,
};
use crate::{
    challenge::{self, NewChallenge, Purpose},
    config::Verification,
    credential::{
        proof::{ProofError, Second},
        store as credentials,
    },
    session,
};

/// Sends a link to the address, if it is an account's.
pub struct AskForRecovery {
    /// HMACs of the address.
    pub email_hashes: Vec<Vec<u8>>,
}

#[async_trait]
impl Change for AskForRecovery {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let found = lookup::candidate_by_email(connection, &self.email_hashes).await?;
        let Some(found) = found else { return Ok(()) };
        let Some(account) = change::lock(connection, found.id).await? else { return Ok(()) };
        if account.suspended_at.is_some() {
            return Ok(());
        }
        let link = recovery_link(connection, with, account.id).await?;
        let until = link.until;
        with.mail_to(connection, &account, Template::Recover, Some(link.details()), Some(until)).await?;
        Ok(())
    }
}

/// A new link that sets the account's password; those before it end.
///
/// # Errors
/// When the database refuses.
pub async fn recovery_link(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
) -> Result<Link, StoreError> {
    let lifetime = with.tools.config.recover_lifetime;
    challenge::end(connection, account, Purpose::Recover).await?;
    let new = NewChallenge {
        id: with.tools.random.uuid_v7(&with.tools.clock),
        account: Some(account),
        purpose: Purpose::Recover,
        data: None,
        email_hash: None,
        uses: 1,
        now: with.now,
        lifetime,
    };
    let secret = challenge::begin(connection, &with.tools.random, new).await?;
    let links = Links::new(&with.tools.config.public_url);
    Ok(Link { url: links.with_secret("recover", secret.as_text()), until: with.now + lifetime })
}

/// Whose a recovery link is, for the check of a new password; it is not used up.
///
/// # Errors
/// When the database refuses.
pub async fn owner(
    connection: &mut AsyncPgConnection,
    secret: &str,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, StoreError> {
    Ok(challenge::find(connection, secret, Purpose::Recover, now).await?.and_then(|found| found.account))
}

/// Sets a new password by a link.
pub struct Recover {
    /// The secret of the link.
    pub secret: String,
    /// The new password's hash.
    pub password_hash: String,
    /// A code, where a second factor is set up.
    pub code: Option<String>,
    /// What the client says it is.
    pub device: Option<String>,
}

#[async_trait]
impl Change for Recover {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let found = challenge::find(connection, &self.secret, Purpose::Recover, with.now).await?;
        let found = found.ok_or(ChangeError::Challenge)?;
        let owner = found.account.ok_or(ChangeError::Challenge)?;
        let account = change::lock(connection, owner).await?.ok_or(ChangeError::Gone)?;
        // A deletion that waits goes on: only a login takes it back.
        let account = usable(Some(change::Locked { purge_at: None, ..account }))?;
        let login = credentials::of_login(connection, account.id).await?;
        match Second::check(&with.tools.vault, &login, self.code.as_deref(), with.now)? {
            Second::NotAsked => {}
            Second::Totp { credential, step } => {
                if !credentials::use_step(connection, credential, step, with.now).await? {
                    return Err(ProofError::CodeWrong.into());
                }
            }
            Second::RecoveryCode(hash) => {
                if !credentials::use_code(connection, account.id, &hash).await? {
                    return Err(ProofError::CodeWrong.into());
                }
            }
        }
        if !challenge::spend(connection, found.id).await? {
            return Err(ChangeError::Challenge);
        }
        let id = with.tools.random.uuid_v7(&with.tools.clock);
        credentials::set_password(connection, (id, account.id), &self.password_hash, with.now).await?;
        session::end_all(connection, with, account.id, None).await?;
        let mut changed = vec![Changed::Password];
        // Whoever has the link has the mailbox.
        if account.email_verified_at.is_none() && with.tools.config.verification != Verification::Off {
            address::mark_verified(connection, account.id, with.now).await?;
            changed.push(Changed::Email);
        }
        let details = Details { device: self.device.clone(), ..Details::default() };
        with.mail_to(connection, &account, Template::PasswordChanged, Some(details), None).await?;
        with.changed(connection, account.id, &changed).await?;
        Ok(())
    }
}
