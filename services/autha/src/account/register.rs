//! Sign-up: the one transaction that makes an account, its session, its events, and keeps the answer for a repeated request.

use chrono::{DateTime, Duration, Utc};
use diesel::{
    ExpressionMethods, Insertable, OptionalExtension, QueryDsl,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_actors::{
    seal::SealError,
    store::{
        StoreError,
        outbox::{About, Outbox},
    },
};
use orrery_schemas::{
    email::{self, SendEmail},
    events::AccountCreated,
    ids::AccountId,
    trace::TraceParent,
};
use uuid::Uuid;

use crate::{
    schema::{accounts, idempotency_keys},
    token::refresh::{self, RefreshToken},
    vault::Vault,
};

/// How long an answer is kept for a repeated request.
const ANSWER_LIFETIME: Duration = Duration::hours(24);

/// Somebody who wants an account; everything is valid and the password is hashed.
pub struct Registration {
    /// The account's id.
    pub account: AccountId,
    /// The name's key.
    pub vanity: String,
    /// The name as typed.
    pub username: String,
    /// The address.
    pub email: String,
    /// PHC string.
    pub password_hash: String,
    /// Language tag.
    pub locale: String,
    /// The session that begins.
    pub refresh: RefreshToken,
    /// Its family.
    pub family: Uuid,
    /// The trace of the request.
    pub trace: TraceParent,
    /// What is kept for a repeated request, if it can be repeated.
    pub repeatable: Option<Repeatable>,
    /// The time.
    pub now: DateTime<Utc>,
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

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name is somebody's.
    #[error("this id is taken; choose another")]
    VanityTaken,
    /// The address is somebody's.
    #[error("this address has an account; log in instead")]
    EmailTaken,
    /// The key belongs to another request.
    #[error("this Idempotency-Key was used for another request; use a new one")]
    OtherRequest,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<DieselError> for RegisterError {
    fn from(error: DieselError) -> Self {
        if let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, information) = &error {
            match information.constraint_name() {
                Some("accounts_vanity_key") => return Self::VanityTaken,
                Some("accounts_email_hash_key") => return Self::EmailTaken,
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
    email_sealed: String,
    password_hash: &'a str,
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
        .filter(idempotency_keys::key_hash.eq(key_hash))
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

/// Whether name or address are somebody's, asked before a password is hashed for nothing.
///
/// # Errors
/// When one is taken, or the database refuses.
pub async fn check_free(
    connection: &mut AsyncPgConnection,
    vanity: &str,
    email_hashes: &[Vec<u8>],
) -> Result<(), RegisterError> {
    let name = accounts::table.filter(accounts::vanity.eq(vanity)).count();
    if name.get_result::<i64>(connection).await? > 0 {
        return Err(RegisterError::VanityTaken);
    }
    let address = accounts::table.filter(accounts::email_hash.eq_any(email_hashes)).count();
    if address.get_result::<i64>(connection).await? > 0 {
        return Err(RegisterError::EmailTaken);
    }
    Ok(())
}

/// Makes the account. Two at once under the same key: the second waits for the first and gets its answer.
///
/// # Errors
/// When name or address are taken, or the database refuses: nothing was changed then.
pub async fn register(
    connection: &mut AsyncPgConnection,
    vault: &Vault,
    outbox: &Outbox,
    registration: &Registration,
) -> Result<Registered, RegisterError> {
    let owner = registration.account.to_string();
    let email = registration.email.as_bytes();
    let account = NewAccount {
        id: registration.account.0,
        vanity: &registration.vanity,
        username: &registration.username,
        email_hash: vault.email.mac(email)?,
        email_sealed: vault.email.seal(email, &owner)?,
        password_hash: &registration.password_hash,
        locale: &registration.locale,
        created_at: registration.now,
    };
    let welcome = SendEmail {
        account: registration.account,
        locale: registration.locale.clone(),
        template: "welcome".to_owned(),
        to: vault.mail.seal(email, &owner)?,
        username: registration.username.clone(),
    };
    let about =
        About { subject: Some(registration.account.0), version: Some(1), trace: Some(registration.trace) };
    connection
        .transaction::<_, RegisterError, _>(async |connection| {
            if let Some(repeatable) = &registration.repeatable {
                let first = diesel::insert_into(idempotency_keys::table)
                    .values(NewAnswer {
                        key_hash: &repeatable.key_hash,
                        request: &repeatable.request,
                        answer: &repeatable.answer,
                        created_at: registration.now,
                    })
                    .on_conflict_do_nothing()
                    .execute(connection)
                    .await?
                    == 1;
                if !first {
                    return match kept(connection, &repeatable.key_hash, &repeatable.request).await? {
                        Kept::Answer(answer) => Ok(Registered::Repeated(answer)),
                        Kept::Nothing | Kept::OtherRequest => Err(RegisterError::OtherRequest),
                    };
                }
            }
            diesel::insert_into(accounts::table).values(&account).execute(connection).await?;
            refresh::begin(
                connection,
                &registration.refresh,
                registration.account,
                registration.family,
                registration.now,
            )
            .await?;
            let created = AccountCreated { account: registration.account, version: 1 };
            outbox.event(connection, &created, about).await?;
            outbox.command(connection, email::QUEUE, &welcome, about).await?;
            Ok(Registered::Created)
        })
        .await
}

/// Removes answers that nobody repeats any more; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune_answers(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let old = idempotency_keys::table.filter(idempotency_keys::created_at.lt(now - ANSWER_LIFETIME));
    Ok(diesel::delete(old).execute(connection).await?)
}
