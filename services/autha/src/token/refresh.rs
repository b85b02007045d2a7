//! Refresh tokens: 64 characters, stored only as hashes. A family is a login; a stolen token's use ends it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Duration, Utc};
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl, Queryable};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_actors::{
    random::Random,
    seal::{SealError, Sealer, sha256},
    store::StoreError,
};
use orrery_schemas::ids::AccountId;
use uuid::Uuid;

use crate::schema::{accounts, refresh_tokens};

/// How long a refresh token is valid.
const LIFETIME: Duration = Duration::days(15);
/// How long after its use a token still gives its successor, if that is unused: a phone that retries keeps its session.
const RETRY_WINDOW: Duration = Duration::seconds(10);

/// A refresh token in the clear; it lives only in answers.
pub struct RefreshToken(String);

/// Why no new token was given.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Unknown, expired, of a deleted account, or used before.
    #[error("the refresh token is not valid any more; log in again")]
    Invalid,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The successor could not be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<diesel::result::Error> for RefreshError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a rotation gives.
pub struct Rotated {
    /// The next token.
    pub token: RefreshToken,
    /// The vanity name of its account.
    pub vanity: String,
}

#[derive(Queryable)]
struct Row {
    family: Uuid,
    account: Uuid,
    expires_at: DateTime<Utc>,
    used_at: Option<DateTime<Utc>>,
    successor: Option<Vec<u8>>,
}

#[derive(Insertable)]
#[diesel(table_name = refresh_tokens)]
struct NewRow {
    hash: Vec<u8>,
    family: Uuid,
    account: Uuid,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl RefreshToken {
    /// A new one.
    pub fn random(random: &Random) -> Self {
        Self(BASE64.encode(random.bytes::<48>()))
    }

    /// The successor of `token`, the same each time.
    fn successor(sealer: &Sealer, token: &str) -> Result<Self, SealError> {
        let mut bytes = sealer.mac(format!("1.{token}").as_bytes())?;
        bytes.extend(sealer.mac(format!("2.{token}").as_bytes())?);
        bytes.truncate(48);
        Ok(Self(BASE64.encode(bytes)))
    }

    /// The token.
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The token.
    pub fn into_text(self) -> String {
        self.0
    }

    fn hash(&self) -> Vec<u8> {
        sha256(self.0.as_bytes())
    }
}

/// Begins a family with `token`.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    token: &RefreshToken,
    account: AccountId,
    family: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    insert(connection, token, account.0, family, now).await
}

/// Exchanges a token for its successor. Must run in a transaction that is committed also on `Ok(None)`, which ended a family.
///
/// # Errors
/// When the database refuses.
pub async fn rotate(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<Rotated>, RefreshError> {
    let hash = sha256(token.as_bytes());
    let row: Option<Row> = refresh_tokens::table
        .find(&hash)
        .select((
            refresh_tokens::family,
            refresh_tokens::account,
            refresh_tokens::expires_at,
            refresh_tokens::used_at,
            refresh_tokens::successor,
        ))
        .for_update()
        .first(connection)
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    // No join: kept prepared it could be walked along all accounts (decision 23).
    let (vanity, deleted_at): (String, Option<DateTime<Utc>>) = accounts::table
        .find(row.account)
        .select((accounts::vanity, accounts::deleted_at))
        .for_update()
        .first(connection)
        .await?;
    if row.expires_at <= now || deleted_at.is_some() {
        return Ok(None);
    }
    let next = RefreshToken::successor(sealer, token)?;
    let Some(used_at) = row.used_at else {
        insert(connection, &next, row.account, row.family, now).await?;
        diesel::update(refresh_tokens::table.filter(refresh_tokens::hash.eq(&hash)))
            .set((refresh_tokens::used_at.eq(now), refresh_tokens::successor.eq(next.hash())))
            .execute(connection)
            .await?;
        return Ok(Some(Rotated { token: next, vanity }));
    };
    // After a change of the master key the successor can no longer be derived: that counts as reuse.
    let derivable = row.successor.as_deref() == Some(next.hash().as_slice());
    let unused = refresh_tokens::table
        .filter(refresh_tokens::hash.eq(next.hash()))
        .filter(refresh_tokens::used_at.is_null())
        .count()
        .get_result::<i64>(connection)
        .await?
        == 1;
    if derivable && unused && now < used_at + RETRY_WINDOW {
        return Ok(Some(Rotated { token: next, vanity }));
    }
    diesel::delete(refresh_tokens::table.filter(refresh_tokens::family.eq(row.family)))
        .execute(connection)
        .await?;
    Ok(None)
}

/// Removes expired tokens; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(connection: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<usize, StoreError> {
    Ok(diesel::delete(refresh_tokens::table.filter(refresh_tokens::expires_at.lt(now)))
        .execute(connection)
        .await?)
}

async fn insert(
    connection: &mut AsyncPgConnection,
    token: &RefreshToken,
    account: Uuid,
    family: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let row = NewRow { hash: token.hash(), family, account, issued_at: now, expires_at: now + LIFETIME };
    diesel::insert_into(refresh_tokens::table).values(row).execute(connection).await?;
    Ok(())
}
