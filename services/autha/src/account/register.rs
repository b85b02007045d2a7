//! Sign-up: the one transaction that makes an account, its session, its events and its mail, and keeps the answer for a repeated request.

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use diesel::{
    ExpressionMethods, Insertable, OptionalExtension, QueryDsl,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{address::Address, email::Template, events::AccountCreated, ids::AccountId};
use orrery_seal::SealError;
use orrery_store::{StoreError, outbox::About};
use uuid::Uuid;

use super::{
    address,
    change::{Change, Circumstances, Conflicting},
    links::Links,
    lookup,
    mail::{Link, MailError, Recipient},
};
use crate::{
    challenge::{self, NewChallenge, Purpose},
    config::Verification,
    credential::store::{self as credentials, Kind},
    schema::{accounts, idempotency_keys},
    session::{self, NewSession},
};

/// How long an answer is kept for a repeated request.
const ANSWER_LIFETIME: Duration = Duration::hours(24);

/// Makes an account; everything is valid and the password is hashed.
pub struct RegisterAccount {
    /// The account's id.
    pub account: AccountId,
    /// The name's key.
    pub vanity: String,
    /// The name as typed.
    pub username: String,
    /// The address.
    pub address: Address,
    /// PHC string.
    pub password_hash: String,
    /// Language tag.
    pub locale: String,
    /// The session that begins, unless the address is verified first.
    pub session: Option<NewSession>,
    /// An invite that is used by it.
    pub invite: Option<String>,
    /// What is kept for a repeated request, if it can be repeated.
    pub repeatable: Option<Repeatable>,
}

/// A request with an `Idempotency-Key`.
#[derive(Clone)]
pub struct Repeatable {
    /// HMAC of the key.
    pub key_hash: Vec<u8>,
    /// HMAC of the request: another request under the same key is refused.
    pub request: Vec<u8>,
    /// The answer, sealed.
    pub answer: String,
}

/// How a sign-up ended.
pub enum Registered {
    /// There is a new account.
    Created,
    /// The same request was answered before: that answer, sealed.
    Repeated(String),
}

/// What was kept under an `Idempotency-Key`.
pub enum Kept {
    /// Nothing.
    Nothing,
    /// The sealed answer to the same request.
    Answer(String),
    /// The answer to another request.
    OtherRequest,
}

/// What of a sign-up is somebody's already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// The name, or one that was given up.
    pub vanity: bool,
    /// The address.
    pub email: bool,
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Name, address or both are somebody's.
    #[error("name or address are taken")]
    Taken(Taken),
    /// The invite is none, or was used.
    #[error("'invite' must be a valid invite; ask somebody who has one")]
    Invite,
    /// The key belongs to another request.
    #[error("this Idempotency-Key was used for another request; use a new one")]
    OtherRequest,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl Conflicting for RegisterError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) | Self::Mail(MailError::Store(error)) if error.is_conflict())
    }
}

impl From<DieselError> for RegisterError {
    fn from(error: DieselError) -> Self {
        if let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, information) = &error {
            match information.constraint_name() {
                Some("accounts_vanity_key") => return Self::Taken(Taken { vanity: true, email: false }),
                Some("accounts_email_hash_key") => return Self::Taken(Taken { vanity: false, email: true }),
                _ => {}
            }
        }
        Self::Store(error.into())
    }
}

#[derive(Insertable)]
#[diesel(table_name = accounts)]
struct NewAccount<'a> {
    id: Uuid,
    vanity: &'a str,
    username: &'a str,
    email_hash: Vec<u8>,
    email_normal: String,
    email_typed: String,
    locale: &'a str,
    created_at: DateTime<Utc>,
}

#[derive(Insertable)]
#[diesel(table_name = idempotency_keys)]
struct NewAnswer<'a> {
    key_hash: &'a [u8],
    request: &'a [u8],
    answer: &'a str,
    created_at: DateTime<Utc>,
}

/// What was answered before under that key.
///
/// # Errors
/// When the database refuses.
pub async fn kept(
    connection: &mut AsyncPgConnection,
    key_hash: &[u8],
    request: &[u8],
) -> Result<Kept, StoreError> {
    let row: Option<(Vec<u8>, String)> = idempotency_keys::table
        .find(key_hash)
        .select((idempotency_keys::request, idempotency_keys::answer))
        .first(connection)
        .await
        .optional()?;
    Ok(match row {
        None => Kept::Nothing,
        Some((kept, answer)) if kept == request => Kept::Answer(answer),
        Some(_) => Kept::OtherRequest,
    })
}

/// Whether name and address are somebody's: asked before a password is hashed for nothing, and again when one of them turned out to be.
///
/// # Errors
/// When the database refuses.
pub async fn taken(
    connection: &mut AsyncPgConnection,
    vanity: &str,
    email_hashes: &[Vec<u8>],
    now: DateTime<Utc>,
) -> Result<Taken, StoreError> {
    let name: i64 =
        accounts::table.filter(accounts::vanity.eq(vanity)).count().get_result(connection).await?;
    Ok(Taken {
        vanity: name > 0 || lookup::is_given_up(connection, vanity).await?,
        email: address::is_taken(connection, email_hashes, Uuid::nil(), now).await?,
    })
}

#[async_trait]
impl Change for RegisterAccount {
    type Done = Registered;
    type Error = RegisterError;

    /// Two at once under the same key: the second waits for the first and gets its answer.
    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Registered, RegisterError> {
        if let Some(repeated) = self.keep_answer(connection, with.now).await? {
            return Ok(repeated);
        }
        if let Some(invite) = &self.invite {
            let found = challenge::find(connection, invite, Purpose::Invite, with.now).await?;
            let found = found.ok_or(RegisterError::Invite)?;
            if !challenge::spend(connection, found.id).await? {
                return Err(RegisterError::Invite);
            }
        }
        let id = self.account.0;
        let (owner, vault) = (self.account.to_string(), &with.tools.vault);
        let normal = self.address.normal().as_bytes();
        // Under a former key it is no conflict in the table, and neither is one that can be taken back.
        if address::is_taken(connection, &vault.email.macs(normal), id, with.now).await? {
            return Err(RegisterError::Taken(Taken { vanity: false, email: true }));
        }
        let account = NewAccount {
            id,
            vanity: &self.vanity,
            username: &self.username,
            email_hash: vault.email.mac(normal)?,
            email_normal: vault.email.seal(normal, &owner)?,
            email_typed: vault.email.seal(self.address.typed().as_bytes(), &owner)?,
            locale: &self.locale,
            created_at: with.now,
        };
        diesel::insert_into(accounts::table).values(&account).execute(connection).await?;
        // Looked for once the row is there, which waited for whoever is removing the former one.
        if lookup::is_given_up(connection, &self.vanity).await? {
            return Err(RegisterError::Taken(Taken { vanity: true, email: false }));
        }
        let credential = with.tools.random.uuid_v7(&with.tools.clock);
        credentials::insert(connection, (credential, id), Kind::Password, &self.password_hash, 0, with.now)
            .await?;
        if let Some(session) = &self.session {
            session::begin(connection, session, id, with.now).await?;
        }
        let created = AccountCreated { account: self.account, version: 1 };
        let about = About { subject: Some(id), version: Some(1), trace: Some(with.trace) };
        with.tools.outbox.event(connection, &created, about).await?;
        self.greet(connection, with).await?;
        Ok(Registered::Created)
    }
}

impl RegisterAccount {
    async fn keep_answer(
        &self,
        connection: &mut AsyncPgConnection,
        now: DateTime<Utc>,
    ) -> Result<Option<Registered>, RegisterError> {
        let Some(repeatable) = &self.repeatable else { return Ok(None) };
        let first = diesel::insert_into(idempotency_keys::table)
            .values(NewAnswer {
                key_hash: &repeatable.key_hash,
                request: &repeatable.request,
                answer: &repeatable.answer,
                created_at: now,
            })
            .on_conflict_do_nothing()
            .execute(connection)
            .await?
            == 1;
        if first {
            return Ok(None);
        }
        match kept(connection, &repeatable.key_hash, &repeatable.request).await? {
            Kept::Answer(answer) => Ok(Some(Registered::Repeated(answer))),
            Kept::Nothing | Kept::OtherRequest => Err(RegisterError::OtherRequest),
        }
    }

    /// One mail: a welcome, or the question whether the mailbox is theirs, after whose answer the welcome comes.
    async fn greet(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), RegisterError> {
        let recipient = Recipient {
            account: self.account.0,
            locale: &self.locale,
            username: &self.username,
            to: self.address.delivery(),
        };
        if with.tools.config.verification == Verification::Off {
            with.mail(connection, recipient, Template::Welcome, None, None).await?;
        } else {
            let link = verification_link(connection, with, self.account.0).await?;
            let until = link.until;
            with.mail(connection, recipient, Template::Verify, Some(link.details()), Some(until)).await?;
        }
        Ok(())
    }
}

/// A new link that verifies the account's address; those before it end.
///
/// # Errors
/// When the database refuses.
pub async fn verification_link(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
) -> Result<Link, StoreError> {
    let lifetime = with.tools.config.verify_lifetime;
    challenge::end(connection, account, Purpose::Verify).await?;
    let new = NewChallenge {
        id: with.tools.random.uuid_v7(&with.tools.clock),
        account: Some(account),
        purpose: Purpose::Verify,
        data: None,
        email_hash: None,
        uses: 1,
        now: with.now,
        lifetime,
    };
    let secret = challenge::begin(connection, &with.tools.random, new).await?;
    let links = Links::new(&with.tools.config.public_url);
    Ok(Link { url: links.with_secret("verify", secret.as_text()), until: with.now + lifetime })
}

/// Removes answers that nobody repeats any more, at most `limit`; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune_answers(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    let old: Vec<Vec<u8>> = idempotency_keys::table
        .filter(idempotency_keys::created_at.lt(now - ANSWER_LIFETIME))
        .order(idempotency_keys::created_at)
        .limit(limit)
        .select(idempotency_keys::key_hash)
        .load(connection)
        .await?;
    Ok(diesel::delete(idempotency_keys::table.filter(idempotency_keys::key_hash.eq_any(old)))
        .execute(connection)
        .await?)
}
