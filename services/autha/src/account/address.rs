//! An account's address: verified, changed once the new mailbox has answered, taken back by the old one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{
    address::Address,
    email::{Details, Template},
    events::Changed,
};
use orrery_store::StoreError;
use std::time::Duration;
use uuid::Uuid;

use super::{
    change::{self, Change, Circumstances, Locked},
    error::ChangeError,
    links::Links,
    mail::{Link, MailError, Recipient, written},
    register,
    update::usable,
};
use crate::{
    challenge::{self, Challenge, NewChallenge, Purpose},
    config::Verification,
    schema::accounts,
    session,
};

/// How long the former address can be put back.
const TAKE_BACK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Asks a new mailbox whether it is the account's, whose row is locked. An address that is somebody's gets no mail, and the answer is the same.
///
/// # Errors
/// When the database refuses.
pub async fn ask(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
    address: &Address,
) -> Result<(), ChangeError> {
    challenge::end(connection, account.id, Purpose::ChangeAddress).await?;
    let hashes = with.tools.vault.email.macs(address.normal().as_bytes());
    if is_taken(connection, &hashes, account.id, with.now).await? {
        return Ok(());
    }
    let lifetime = with.tools.config.verify_lifetime;
    let link = link(connection, with, account.id, Purpose::ChangeAddress, address, lifetime).await?;
    let until = link.until;
    let recipient = Recipient {
        account: account.id,
        locale: &account.locale,
        username: &account.username,
        to: address.delivery(),
    };
    with.mail(connection, recipient, Template::ConfirmAddress, Some(link.details()), Some(until)).await?;
    Ok(())
}

/// Whether an address is an account's, under whichever key its hash lies, or is kept for another account than `but`, which can take it back: whoever
/// stole an account does not keep its owner from that by signing up with it.
///
/// # Errors
/// When the database refuses.
pub async fn is_taken(
    connection: &mut AsyncPgConnection,
    hashes: &[Vec<u8>],
    but: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let owners: i64 =
        accounts::table.filter(accounts::email_hash.eq_any(hashes)).count().get_result(connection).await?;
    Ok(owners > 0 || challenge::keeps_address(connection, hashes, but, now).await?)
}

async fn link(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
    purpose: Purpose,
    address: &Address,
    lifetime: Duration,
) -> Result<Link, ChangeError> {
    let id = with.tools.random.uuid_v7(&with.tools.clock);
    let data = with.tools.vault.challenges.seal(address.typed().as_bytes(), &id.to_string())?;
    let email_hash = match purpose {
        Purpose::TakeBack => Some(with.tools.vault.email.mac(address.normal().as_bytes())?),
        _ => None,
    };
    let new = NewChallenge {
        id,
        account: Some(account),
        purpose,
        data: Some(&data),
        email_hash,
        uses: 1,
        now: with.now,
        lifetime,
    };
    let secret = challenge::begin(connection, &with.tools.random, new).await?;
    let page = match purpose {
        Purpose::TakeBack => "address/take-back",
        _ => "address/confirm",
    };
    let links = Links::new(&with.tools.config.public_url);
    Ok(Link { url: links.with_secret(page, secret.as_text()), until: with.now + lifetime })
}

/// Sends the link that verifies the address once more.
pub struct AskAgain {
    /// Whose.
    pub account: Uuid,
}

#[async_trait]
impl Change for AskAgain {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let account = usable(change::lock(connection, self.account).await?)?;
        if account.email_verified_at.is_some() {
            return Ok(());
        }
        let link = register::verification_link(connection, with, account.id).await?;
        let until = link.until;
        with.mail_to(connection, &account, Template::Verify, Some(link.details()), Some(until)).await?;
        Ok(())
    }
}

/// Tells the owner of an address that somebody tried to sign up with it.
pub struct TellOwner {
    /// HMACs of the address.
    pub email_hashes: Vec<Vec<u8>>,
}

#[async_trait]
impl Change for TellOwner {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let Some(owner) = crate::account::lookup::candidate_by_email(connection, &self.email_hashes).await?
        else {
            return Ok(());
        };
        let Some(account) = change::lock(connection, owner.id).await? else { return Ok(()) };
        if account.email_verified_at.is_none() && with.tools.config.verification == Verification::Require {
            let link = register::verification_link(connection, with, account.id).await?;
            let until = link.until;
            with.mail_to(connection, &account, Template::Verify, Some(link.details()), Some(until)).await?;
        } else {
            with.mail_to(connection, &account, Template::AddressTaken, None, None).await?;
        }
        Ok(())
    }
}

/// Uses a link that came by mail: verifies the address, changes it, or takes a change back.
pub struct AnswerMail {
    /// The secret of the link.
    pub secret: String,
    /// What it must be good for.
    pub purpose: Purpose,
}

#[async_trait]
impl Change for AnswerMail {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let found = challenge::find(connection, &self.secret, self.purpose, with.now).await?;
        let found = found.ok_or(ChangeError::Challenge)?;
        let owner = found.account.ok_or(ChangeError::Challenge)?;
        let account = usable(change::lock(connection, owner).await?)?;
        if !challenge::spend(connection, found.id).await? {
            return Err(ChangeError::Challenge);
        }
        match self.purpose {
            Purpose::Verify => verify(connection, with, &account).await,
            Purpose::ChangeAddress => replace(connection, with, &account, &found).await,
            _ => take_back(connection, with, &account, &found).await,
        }
    }
}

async fn verify(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
) -> Result<(), ChangeError> {
    if account.email_verified_at.is_some() {
        return Ok(());
    }
    mark_verified(connection, account.id, with.now).await?;
    with.mail_to(connection, account, Template::Welcome, None, None).await?;
    with.changed(connection, account.id, &[Changed::Email]).await?;
    Ok(())
}

/// Says that the mailbox of a locked account has answered. Raise the version with it.
///
/// # Errors
/// When the database refuses.
pub async fn mark_verified(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::update(accounts::table.find(account))
        .set(accounts::email_verified_at.eq(now))
        .execute(connection)
        .await?;
    challenge::end(connection, account, Purpose::Verify).await
}

async fn replace(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
    challenge: &Challenge,
) -> Result<(), ChangeError> {
    let new = address_in(with, challenge)?;
    let old = with.address_of(account)?;
    // Somebody may have been faster since the mail was sent.
    let hashes = with.tools.vault.email.macs(new.normal().as_bytes());
    if is_taken(connection, &hashes, account.id, with.now).await? {
        return Err(ChangeError::AddressTaken);
    }
    set(connection, with, account.id, &new, Some(with.now)).await?;
    // Whoever asked for another one with the former address has to ask again.
    challenge::end(connection, account.id, Purpose::ChangeAddress).await?;
    challenge::end(connection, account.id, Purpose::Verify).await?;
    challenge::end(connection, account.id, Purpose::Recover).await?;
    let link = link(connection, with, account.id, Purpose::TakeBack, &old, TAKE_BACK).await?;
    let details = Details {
        address: Some(masked(new.delivery())),
        link: Some(link.url),
        until: Some(written(link.until)),
        ..Details::default()
    };
    let recipient = Recipient {
        account: account.id,
        locale: &account.locale,
        username: &account.username,
        to: old.delivery(),
    };
    with.mail(connection, recipient, Template::AddressChanged, Some(details), Some(link.until)).await?;
    with.changed(connection, account.id, &[Changed::Email]).await?;
    Ok(())
}

/// Whoever changed the address may have stolen the account: every session ends, and every link that went to the new address.
async fn take_back(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
    challenge: &Challenge,
) -> Result<(), ChangeError> {
    let old = address_in(with, challenge)?;
    set(connection, with, account.id, &old, Some(with.now)).await?;
    for purpose in [Purpose::ChangeAddress, Purpose::TakeBack, Purpose::Recover, Purpose::Verify] {
        challenge::end(connection, account.id, purpose).await?;
    }
    session::end_all(connection, with, account.id, None).await?;
    with.changed(connection, account.id, &[Changed::Email]).await?;
    Ok(())
}

fn address_in(with: &Circumstances, challenge: &Challenge) -> Result<Address, ChangeError> {
    let sealed = challenge.data.as_deref().ok_or(ChangeError::Challenge)?;
    let typed = with.tools.vault.challenges.open(sealed, &challenge.id.to_string())?;
    let typed = std::str::from_utf8(&typed).map_err(|_| MailError::Unwritable)?;
    Ok(Address::parse(typed, true).map_err(|_| MailError::Unwritable)?)
}

async fn set(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
    address: &Address,
    verified_at: Option<DateTime<Utc>>,
) -> Result<(), ChangeError> {
    let (vault, owner) = (&with.tools.vault, account.to_string());
    let normal = address.normal().as_bytes();
    diesel::update(accounts::table.find(account))
        .set((
            accounts::email_hash.eq(vault.email.mac(normal)?),
            accounts::email_normal.eq(vault.email.seal(normal, &owner)?),
            accounts::email_typed.eq(vault.email.seal(address.typed().as_bytes(), &owner)?),
            accounts::email_verified_at.eq(verified_at),
        ))
        .execute(connection)
        .await?;
    Ok(())
}

/// The address with most of the name hidden, for whoever must not learn it.
fn masked(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let first: String = local.chars().take(1).collect();
    format!("{first}***@{domain}")
}
