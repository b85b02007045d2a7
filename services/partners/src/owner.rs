//! What owners of partners are told: that an endpoint of theirs was disabled. The mail is a command for maily, in the transaction that disables.

use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use orrery_schemas::{
    email::{self, Details, SendEmail, Template},
    ids::AccountId,
};
use orrery_seal::SealError;
use orrery_store::{
    StoreError,
    outbox::{About, Outbox},
};

use crate::{
    deliver::worker::Shared,
    records::{
        endpoints::{self, Endpoint},
        partners::Partner,
    },
    vault::Vault,
};

/// An owner could not be told.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be opened, or sealed.
    #[error("the address of an owner cannot be opened or sealed: {0}")]
    Seal(#[from] SealError),
    /// The details are no JSON.
    #[error("a mail could not be put together: {0}")]
    Unwritable(#[from] serde_json::Error),
}

impl From<diesel::result::Error> for OwnerError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Disables an endpoint, and tells its owner.
///
/// # Errors
/// When it cannot be written; then it is not disabled either.
pub async fn disable(
    shared: &Shared,
    endpoint: &Endpoint,
    partner: &Partner,
    reason: &str,
) -> Result<(), OwnerError> {
    let mail = mail(&shared.vault, endpoint, partner, reason)?;
    let (outbox, id, reason) = (shared.outbox.clone(), endpoint.id, reason.to_owned());
    shared
        .pool
        .run(move |mut connection| async move {
            connection
                .transaction::<_, OwnerError, _>(async |connection| {
                    if endpoints::disable(connection, id, &reason, false).await?
                        && let Some(mail) = &mail
                    {
                        send(connection, &outbox, mail).await?;
                    }
                    Ok(())
                })
                .await
        })
        .await?;
    shared.wake.wake();
    Ok(())
}

async fn send(
    connection: &mut AsyncPgConnection,
    outbox: &Outbox,
    mail: &SendEmail,
) -> Result<(), StoreError> {
    outbox.command(connection, email::QUEUE, mail, About::default()).await?;
    Ok(())
}

/// The mail; none for a partner without an address.
fn mail(
    vault: &Vault,
    endpoint: &Endpoint,
    partner: &Partner,
    reason: &str,
) -> Result<Option<SendEmail>, OwnerError> {
    let Some(sealed) = &partner.contact else { return Ok(None) };
    let owner = partner.id.to_string();
    let address = vault.contacts.open(sealed, &owner)?;
    let details = Details { reason: Some(format!("{}: {reason}", endpoint.url)), ..Details::default() };
    Ok(Some(SendEmail {
        account: AccountId(partner.id),
        locale: partner.locale.clone(),
        template: Template::EndpointDisabled,
        to: vault.mail.seal(&address, &owner)?,
        username: partner.name.clone(),
        details: Some(vault.mail_details.seal(&serde_json::to_vec(&details)?, &owner)?),
    }))
}
