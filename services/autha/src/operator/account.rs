//! What only an operator does: making accounts and invites, taking a second factor away, naming operators.

use async_trait::async_trait;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{address::Address, email::Template, events::Changed};
use orrery_store::StoreError;
use uuid::Uuid;

use crate::{
    account::{
        change::{self, Change, Circumstances},
        error::ChangeError,
        links::Links,
        mail::{Link, Recipient},
        recover::recovery_link,
        register::{RegisterAccount, RegisterError, Registered},
    },
    challenge::{self, NewChallenge, Purpose},
    credential::second_factor::{self, FactorChange},
    schema::operators,
    session::{self, EndSessions},
};

/// The hash of an account whose owner has not set a password yet: no password fits it.
pub const NO_PASSWORD: &str = "none";

/// An account was not made.
pub type CreateError = RegisterError;

/// Makes an account; with `asks` its owner sets the password by a link that is sent to the address.
pub struct CreateAccount {
    /// The account; its password is random where its owner sets one.
    pub register: RegisterAccount,
    /// Whether the owner is asked for a password.
    pub asks: bool,
}

#[async_trait]
impl Change for CreateAccount {
    type Done = Registered;
    type Error = CreateError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Registered, CreateError> {
        let done = self.register.apply(connection, with).await?;
        if self.asks {
            let link = recovery_link(connection, with, self.register.account.0).await?;
            let until = link.until;
            let recipient = Recipient {
                account: self.register.account.0,
                locale: &self.register.locale,
                username: &self.register.username,
                to: self.register.address.delivery(),
            };
            with.mail(connection, recipient, Template::Recover, Some(link.details()), Some(until)).await?;
        }
        Ok(done)
    }
}

/// Makes an invite, and sends it where an address is given.
pub struct InviteSomebody {
    /// Whom it is sent to.
    pub address: Option<Address>,
    /// The language of that mail.
    pub locale: String,
    /// How often it can be used.
    pub uses: i32,
    /// Who invites, as the mail says.
    pub inviter: Option<String>,
}

/// An invite.
#[derive(Debug, Clone)]
pub struct Invited {
    /// The secret: what sign-up takes as `invite`.
    pub invite: String,
    /// The page that is opened with it.
    pub link: String,
    /// When it ends.
    pub until: chrono::DateTime<chrono::Utc>,
}

#[async_trait]
impl Change for InviteSomebody {
    type Done = Invited;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Invited, ChangeError> {
        let id = with.tools.random.uuid_v7(&with.tools.clock);
        let lifetime = with.tools.config.invite_lifetime;
        let new = NewChallenge {
            id,
            account: None,
            purpose: Purpose::Invite,
            data: None,
            email_hash: None,
            uses: self.uses.max(1),
            now: with.now,
            lifetime,
        };
        let secret = challenge::begin(connection, &with.tools.random, new).await?;
        let links = Links::new(&with.tools.config.public_url);
        let link = Link { url: links.with_secret("invite", secret.as_text()), until: with.now + lifetime };
        let invited =
            Invited { invite: secret.as_text().to_owned(), link: link.url.clone(), until: link.until };
        if let Some(address) = &self.address {
            let recipient = Recipient {
                account: id,
                locale: &self.locale,
                username: address.delivery().split('@').next().unwrap_or_default(),
                to: address.delivery(),
            };
            let details = orrery_schemas::email::Details {
                code: Some(invited.invite.clone()),
                inviter: self.inviter.clone(),
                ..link.details()
            };
            with.mail(connection, recipient, Template::Invite, Some(details), Some(invited.until)).await?;
        }
        Ok(invited)
    }
}

/// Takes the second factor of an account away, and ends its sessions.
pub struct ResetSecondFactor {
    /// Whose.
    pub account: Uuid,
}

#[async_trait]
impl Change for ResetSecondFactor {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        second_factor::apply(connection, with, &account, &FactorChange::Reset, None).await?;
        session::end_all(connection, with, account.id, None).await?;
        with.changed(connection, account.id, &[Changed::SecondFactor]).await?;
        Ok(())
    }
}

/// Says whether an account may ask for the scope `admin`.
pub struct GrantOperator {
    /// Whose.
    pub account: Uuid,
    /// Whether it may.
    pub is_operator: bool,
}

#[async_trait]
impl Change for GrantOperator {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        if self.is_operator {
            diesel::insert_into(operators::table)
                .values((operators::account.eq(account.id), operators::granted_at.eq(with.now)))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
        } else {
            diesel::delete(operators::table.find(account.id)).execute(connection).await?;
            // Tokens with the scope end with their sessions.
            session::end_all(connection, with, account.id, None).await?;
        }
        with.changed(connection, account.id, &[Changed::State]).await?;
        Ok(())
    }
}

/// Ends all sessions of an account, as an operator's act.
pub struct EndAll(pub EndSessions);

#[async_trait]
impl Change for EndAll {
    type Done = usize;
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<usize, ChangeError> {
        Ok(self.0.apply(connection, with).await?)
    }
}

/// Whether an account may ask for the scope `admin`.
///
/// # Errors
/// When the database refuses.
pub async fn is_operator(connection: &mut AsyncPgConnection, account: Uuid) -> Result<bool, StoreError> {
    Ok(operators::table.find(account).count().get_result::<i64>(connection).await? == 1)
}
