//! The mails about an account: each is a row of the outbox, in the transaction of what it tells. What they say lives in maily.

use chrono::{DateTime, SecondsFormat, Utc};
use diesel_async::AsyncPgConnection;
use orrery_schemas::{
    address::Address,
    email::{self, Details, SendEmail, Template},
    ids::AccountId,
};
use orrery_seal::SealError;
use orrery_store::{StoreError, outbox::About};
use uuid::Uuid;

use super::change::{Circumstances, Locked};

/// A mail was not written.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The details are no JSON, or the address that was kept is none any more.
    #[error("a mail could not be put together")]
    Unwritable,
}

/// Whom a mail goes to.
pub struct Recipient<'a> {
    /// The account that it concerns, or the id that stands for an invitation.
    pub account: Uuid,
    /// The language to write in.
    pub locale: &'a str,
    /// The name to greet with.
    pub username: &'a str,
    /// What mail is sent to.
    pub to: &'a str,
}

/// A link, and when it ends.
pub struct Link {
    /// The whole address.
    pub url: String,
    /// When it ends.
    pub until: DateTime<Utc>,
}

impl Link {
    /// As details of a mail.
    pub fn details(self) -> Details {
        Details { link: Some(self.url), until: Some(written(self.until)), ..Details::default() }
    }
}

/// A time as mails have it.
pub fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl Circumstances {
    /// Writes a mail to `recipient`. With `expires_at` it is dropped after that, not sent.
    ///
    /// # Errors
    /// When it cannot be sealed or written.
    pub async fn mail(
        &self,
        connection: &mut AsyncPgConnection,
        recipient: Recipient<'_>,
        template: Template,
        details: Option<Details>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(), MailError> {
        let owner = recipient.account.to_string();
        let vault = &self.tools.vault;
        let details = match details {
            None => None,
            Some(details) => {
                let text = serde_json::to_vec(&details).map_err(|_| MailError::Unwritable)?;
                Some(vault.mail_details.seal(&text, &owner)?)
            }
        };
        let command = SendEmail {
            account: AccountId(recipient.account),
            locale: recipient.locale.to_owned(),
            template,
            to: vault.mail.seal(recipient.to.as_bytes(), &owner)?,
            username: recipient.username.to_owned(),
            details,
        };
        let about = About { subject: Some(recipient.account), version: None, trace: Some(self.trace) };
        self.tools.outbox.command_until(connection, email::QUEUE, &command, about, expires_at).await?;
        Ok(())
    }

    /// Writes a mail to the address of an account.
    ///
    /// # Errors
    /// As `mail`.
    pub async fn mail_to(
        &self,
        connection: &mut AsyncPgConnection,
        account: &Locked,
        template: Template,
        details: Option<Details>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(), MailError> {
        let address = self.address_of(account)?;
        let recipient = Recipient {
            account: account.id,
            locale: &account.locale,
            username: &account.username,
            to: address.delivery(),
        };
        self.mail(connection, recipient, template, details, expires_at).await
    }

    /// The address of an account.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn address_of(&self, account: &Locked) -> Result<Address, MailError> {
        let typed = self.tools.vault.email.open(&account.email_typed, &account.id.to_string())?;
        let typed = std::str::from_utf8(&typed).map_err(|_| MailError::Unwritable)?;
        // What was taken once stays mailable, whatever the setting is now.
        Address::parse(typed, true).map_err(|_| MailError::Unwritable)
    }
}
