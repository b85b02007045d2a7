//! One-time secrets: made, sent by mail or handed out, used once. Only their hashes are kept. What each is good for lives where it is used.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, Insertable, OptionalExtension, QueryDsl, Queryable, Selectable,
    SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_seal::sha256;
use orrery_store::StoreError;
use orrery_supervise::random::Random;
use uuid::Uuid;

use crate::{schema::challenges, stored_time};

/// What a secret is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proves that a mailbox is the account's.
    Verify,
    /// Sets a new password.
    Recover,
    /// Proves that a new mailbox is the account's.
    ChangeAddress,
    /// Puts the former address back.
    TakeBack,
    /// Allows a sign-up.
    Invite,
}

impl Purpose {
    /// As it stands in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Recover => "recover",
            Self::ChangeAddress => "change_address",
            Self::TakeBack => "take_back",
            Self::Invite => "invite",
        }
    }
}

/// A secret in the clear; it lives only in mails and answers.
pub struct Secret(String);

/// A secret's row.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = challenges)]
pub struct Challenge {
    /// Its id, for which `data` is sealed.
    pub id: Uuid,
    /// Whose it is; an invite is nobody's.
    pub account: Option<Uuid>,
    /// What it is for, sealed.
    pub data: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = challenges, treat_none_as_default_value = false)]
struct NewRow<'a> {
    id: Uuid,
    account: Option<Uuid>,
    purpose: &'a str,
    secret_hash: Vec<u8>,
    data: Option<&'a str>,
    email_hash: Option<Vec<u8>>,
    uses_left: i32,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// A challenge to be written.
pub struct NewChallenge<'a> {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: Option<Uuid>,
    /// What it is good for.
    pub purpose: Purpose,
    /// What it is for, sealed for `id`.
    pub data: Option<&'a str>,
    /// HMAC of an address that is kept for its account meanwhile.
    pub email_hash: Option<Vec<u8>>,
    /// How often it can be used.
    pub uses: i32,
    /// The time.
    pub now: DateTime<Utc>,
    /// How long it can be used.
    pub lifetime: std::time::Duration,
}

impl Secret {
    /// A new one: 43 characters.
    pub fn random(random: &Random) -> Self {
        Self(BASE64.encode(random.bytes::<32>()))
    }

    /// The secret.
    pub fn as_text(&self) -> &str {
        &self.0
    }
}

/// Writes a challenge and gives its secret.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    random: &Random,
    new: NewChallenge<'_>,
) -> Result<Secret, StoreError> {
    let secret = Secret::random(random);
    let lifetime = chrono::Duration::from_std(new.lifetime).unwrap_or(chrono::Duration::days(1));
    let row = NewRow {
        id: new.id,
        account: new.account,
        purpose: new.purpose.name(),
        secret_hash: sha256(secret.as_text().as_bytes()),
        data: new.data,
        email_hash: new.email_hash,
        uses_left: new.uses,
        created_at: new.now,
        expires_at: new.now + lifetime,
    };
    diesel::insert_into(challenges::table).values(row).execute(connection).await?;
    Ok(secret)
}

/// Whether a challenge can still be used. One that was made while the clock was ahead would live for longer than it should.
#[diesel::dsl::auto_type]
fn usable(now: DateTime<Utc>) -> _ {
    let latest: DateTime<Utc> = now + stored_time::SKEW;
    challenges::expires_at.gt(now).and(challenges::created_at.le(latest)).and(challenges::uses_left.gt(0_i32))
}

/// Whose a secret is, without using it: the account is locked before its challenge.
///
/// # Errors
/// When the database refuses.
pub async fn find(
    connection: &mut AsyncPgConnection,
    secret: &str,
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<Option<Challenge>, StoreError> {
    Ok(challenges::table
        .filter(challenges::secret_hash.eq(sha256(secret.as_bytes())))
        .filter(challenges::purpose.eq(purpose.name()))
        .filter(usable(now))
        .select(Challenge::as_select())
        .first(connection)
        .await
        .optional()?)
}

/// Whether an address with one of these hashes is kept for another account than `but`, which can take it back.
///
/// # Errors
/// When the database refuses.
pub async fn keeps_address(
    connection: &mut AsyncPgConnection,
    email_hashes: &[Vec<u8>],
    but: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let kept: i64 = challenges::table
        .filter(challenges::email_hash.eq_any(email_hashes))
        .filter(challenges::account.ne(but))
        .filter(usable(now))
        .count()
        .get_result(connection)
        .await?;
    Ok(kept > 0)
}

/// Uses a challenge once; false when another request was first.
///
/// # Errors
/// When the database refuses. Locks the challenge.
pub async fn spend(connection: &mut AsyncPgConnection, id: Uuid) -> Result<bool, StoreError> {
    let used = diesel::update(challenges::table.find(id))
        .filter(challenges::uses_left.gt(0))
        .set(challenges::uses_left.eq(challenges::uses_left - 1))
        .execute(connection)
        .await?;
    Ok(used == 1)
}

/// Ends every challenge of an account for that purpose.
///
/// # Errors
/// When the database refuses.
pub async fn end(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    purpose: Purpose,
) -> Result<(), StoreError> {
    diesel::delete(challenges::table)
        .filter(challenges::account.eq(account))
        .filter(challenges::purpose.eq(purpose.name()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes challenges that have ended, at most `limit`; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    let old: Vec<Uuid> = challenges::table
        .filter(challenges::expires_at.lt(now))
        .order(challenges::expires_at)
        .limit(limit)
        .select(challenges::id)
        .load(connection)
        .await?;
    Ok(diesel::delete(challenges::table.filter(challenges::id.eq_any(old))).execute(connection).await?)
}
