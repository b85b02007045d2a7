//! What `orrery account` and `orrery keys` do: the operator's functions without HTTP, each with its line in the audit log.

use std::{sync::Arc, time::Duration};

use orrery_bus::relay::Wake;
use orrery_config::keys::KeyRing;
use orrery_schemas::{address::Address, ids::AccountId};
use orrery_seal::SealError;
use orrery_store::{Pool, StoreError, outbox::Outbox};
use orrery_supervise::clock::Clock;
use orrery_supervise::random::Random;
use uuid::Uuid;

use super::{
    Actor, Audited, CreateAccount, Deleted, EndAll, Entry, Filter, GrantOperator, InviteSomebody, Invited,
    ListedAccount, Look, NO_PASSWORD, ResetSecondFactor, Shown,
    audit::{self, AuditError, Line},
    list,
    reseal::{self, Resealed},
};
use crate::{
    account::{
        change::{Change, Tools, perform},
        deletion::DeleteAccount,
        error::ChangeError,
        register::{RegisterAccount, RegisterError},
        reserved,
        state::{RestoreAccount, SuspendAccount},
        vanity::Vanity,
    },
    config::Config,
    definition::AUTHA,
    import::{ImportError, ReadError},
    key::{self, KeyError, Rotation},
    session::EndSessions,
    vault::Vault,
};

/// Why a command was not done; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nobody is meant.
    #[error("no account has this id, name or address")]
    Unknown,
    /// A name that cannot be one.
    #[error("the name must be 2 to 64 letters (A-Z, a-z), digits or underscores, and not a reserved one")]
    Name,
    /// An address that cannot be one.
    #[error("the address {0}")]
    Address(#[from] orrery_schemas::address::AddressFault),
    /// The account was not made.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The change was refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The import broke off.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be written or read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A key cannot be made or opened.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Something cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<diesel::result::Error> for CommandError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What the commands are given.
pub struct Parts {
    /// Autha's section.
    pub config: Config,
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// Autha's connections.
    pub pool: Pool,
    /// Master keys.
    pub master: KeyRing,
    /// Keys shared with maily.
    pub mail: KeyRing,
    /// The time.
    pub clock: Clock,
    /// Ids and secrets.
    pub random: Random,
    /// Who acts, as the system knows them.
    pub actor: String,
}

/// An operator at the command line.
pub struct Operator {
    pub(super) tools: Tools,
    actor: Actor,
}

impl Operator {
    /// An operator with these parts.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn new(parts: Parts) -> Result<Self, SealError> {
        let vault = Arc::new(Vault::new(&parts.master, &parts.mail)?);
        let outbox = Outbox::new(AUTHA, parts.event_lifetime, parts.clock.clone(), parts.random.clone());
        let tools = Tools {
            pool: parts.pool,
            vault,
            outbox,
            // The relay of a running replica looks by itself.
            wake: Wake::default(),
            config: Arc::new(parts.config),
            clock: parts.clock,
            random: parts.random,
        };
        Ok(Self { tools, actor: Actor::CommandLine(parts.actor) })
    }

    /// Accounts in the order in which they came to be.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(
        &self,
        filter: Filter,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<ListedAccount>, CommandError> {
        let mut connection = self.tools.pool.get().await?;
        Ok(list::list(&mut connection, filter, after, limit).await?)
    }

    async fn find(&self, reference: &str) -> Result<ListedAccount, CommandError> {
        let mut connection = self.tools.pool.get().await?;
        let found = list::by_reference(&mut connection, &self.tools.vault, reference).await?;
        found.ok_or(CommandError::Unknown)
    }

    /// All that an operator may see of one account.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn show(&self, reference: &str) -> Result<Shown, CommandError> {
        let account = self.find(reference).await?;
        let entry = self.entry("account.show", Some(&account), None);
        self.perform(Look { entry }).await?;
        let mut connection = self.tools.pool.get().await?;
        Ok(list::show(&mut connection, &self.tools.vault, account).await?)
    }

    /// Makes an account whose owner sets the password by mail.
    ///
    /// # Errors
    /// When name or address are taken or no such, or the database refuses.
    pub async fn create(&self, name: &str, email: &str, locale: &str) -> Result<AccountId, CommandError> {
        let vanity = Vanity::parse(name).ok_or(CommandError::Name)?;
        let config = &self.tools.config;
        if reserved::is_reserved(&vanity.key, &config.reserved_names) {
            return Err(CommandError::Name);
        }
        let address = Address::parse(email, config.international_addresses)?;
        let account = AccountId(self.tools.random.uuid_v7(&self.tools.clock));
        let entry = Entry {
            actor: self.actor.clone(),
            action: "account.create",
            account: Some(account.0),
            subject: Some(vanity.key.clone()),
            detail: None,
        };
        let register = RegisterAccount {
            account,
            vanity: vanity.key,
            username: vanity.display,
            address,
            password_hash: NO_PASSWORD.to_owned(),
            locale: locale.to_owned(),
            session: None,
            invite: None,
            repeatable: None,
        };
        self.perform(Audited { change: CreateAccount { register, asks: true }, entry }).await?;
        Ok(account)
    }

    /// Suspends an account; whether it was not before.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn suspend(&self, reference: &str, reason: Option<String>) -> Result<bool, CommandError> {
        let detail = reason.clone();
        self.act("account.suspend", reference, detail, |account| SuspendAccount { account, reason }).await
    }

    /// Ends a suspension, or a deletion that waits; whether there was one.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn restore(&self, reference: &str) -> Result<bool, CommandError> {
        self.act("account.restore", reference, None, |account| RestoreAccount { account }).await
    }

    /// Deletes an account after the usual grace; when its rows go.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn delete(&self, reference: &str) -> Result<chrono::DateTime<chrono::Utc>, CommandError> {
        self.act("account.delete", reference, None, |account| DeleteAccount { account, proof: None }).await
    }

    /// Takes a second factor away.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn reset_second_factor(&self, reference: &str) -> Result<(), CommandError> {
        self.act("account.reset_second_factor", reference, None, |account| ResetSecondFactor { account })
            .await
    }

    /// Ends all sessions of an account; how many.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn end_sessions(&self, reference: &str) -> Result<usize, CommandError> {
        let change = |account| EndAll(EndSessions { account, keep: None });
        self.act("account.end_sessions", reference, None, change).await
    }

    /// Says whether an account may ask for the scope `admin`.
    ///
    /// # Errors
    /// When nobody is meant, or the database refuses.
    pub async fn grant_operator(&self, reference: &str, is_operator: bool) -> Result<(), CommandError> {
        let action = if is_operator { "account.grant_operator" } else { "account.revoke_operator" };
        self.act(action, reference, None, |account| GrantOperator { account, is_operator }).await
    }

    /// Makes an invite, and sends it where an address is given.
    ///
    /// # Errors
    /// When the address is none, or the database refuses.
    pub async fn invite(
        &self,
        email: Option<&str>,
        locale: &str,
        uses: i32,
    ) -> Result<Invited, CommandError> {
        let international = self.tools.config.international_addresses;
        let address = email.map(|email| Address::parse(email, international)).transpose()?;
        let entry = self.entry("account.invite", None, email.map(str::to_owned));
        let change = InviteSomebody { address, locale: locale.to_owned(), uses, inviter: None };
        Ok(self.perform(Audited { change, entry }).await?)
    }

    /// Lines of the audit log, the newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<Line>, CommandError> {
        let mut connection = self.tools.pool.get().await?;
        Ok(audit::read(&mut connection, &self.tools.vault.audit, before, limit).await?)
    }

    /// An account that is gone, by its internal id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn deletion(&self, reference: &str) -> Result<Option<Deleted>, CommandError> {
        let Ok(account) = reference.parse() else { return Ok(None) };
        let mut connection = self.tools.pool.get().await?;
        Ok(list::deletion(&mut connection, account).await?)
    }

    /// Accounts that are gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn deletions(&self, limit: i64) -> Result<Vec<Deleted>, CommandError> {
        let mut connection = self.tools.pool.get().await?;
        Ok(list::deletions(&mut connection, limit).await?)
    }

    /// Makes a new signing key; returns its id.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub async fn rotate_signing_key(&self, rotation: Rotation) -> Result<String, CommandError> {
        let kid = {
            let mut connection = self.tools.pool.get().await?;
            key::rotate(&mut connection, &self.tools.vault.signing_keys, rotation).await?
        };
        let entry = self.entry("keys.rotate", None, Some(format!("{kid}, {rotation:?}")));
        self.perform(Look { entry }).await?;
        Ok(kid)
    }

    /// Seals everything under the current master key that lies under a former one, in small transactions; `told` hears of each. Safe to stop and to
    /// run again: what is done stays done.
    ///
    /// # Errors
    /// When something lies under a key that is not in the configuration, or the database refuses.
    pub async fn reseal(&self, told: impl FnMut(&Resealed)) -> Result<Resealed, CommandError> {
        let entry = self.entry("keys.rotate_data", None, None);
        self.perform(Look { entry }).await?;
        reseal::reseal(&self.tools, told).await
    }

    pub(super) fn entry(
        &self,
        action: &'static str,
        account: Option<&ListedAccount>,
        detail: Option<String>,
    ) -> Entry {
        Entry {
            actor: self.actor.clone(),
            action,
            account: account.map(|account| account.id),
            subject: account.map(|account| account.vanity.clone()),
            detail,
        }
    }

    async fn act<C>(
        &self,
        action: &'static str,
        reference: &str,
        detail: Option<String>,
        change: impl FnOnce(Uuid) -> C,
    ) -> Result<C::Done, CommandError>
    where
        C: Change,
        C::Error: From<SealError>,
        CommandError: From<C::Error>,
    {
        let account = self.find(reference).await?;
        let entry = self.entry(action, Some(&account), detail);
        Ok(self.perform(Audited { change: change(account.id), entry }).await?)
    }

    pub(super) async fn perform<C: Change>(&self, change: C) -> Result<C::Done, C::Error> {
        perform(self.tools.clone(), change, self.tools.random.trace()).await
    }
}
