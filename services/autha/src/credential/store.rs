//! The rows of credentials.

use chrono::{DateTime, Utc};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, Insertable, OptionalExtension, QueryDsl, Queryable, Selectable,
    SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use uuid::Uuid;

use super::totp;
use crate::{schema::credentials, stored_time};

/// The kinds of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A password's hash.
    Password,
    /// A sealed TOTP secret.
    Totp,
    /// A recovery code's hash.
    RecoveryCode,
}

impl Kind {
    /// As it stands in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery_code",
        }
    }
}

/// A credential's row.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = credentials)]
pub struct Credential {
    /// Its id, for which a TOTP secret is sealed.
    pub id: Uuid,
    /// Its kind.
    pub kind: String,
    /// The hash, or the sealed secret.
    pub secret: String,
    /// The last TOTP step that was used.
    pub counter: i64,
}

#[derive(Insertable)]
#[diesel(table_name = credentials)]
struct NewRow<'a> {
    id: Uuid,
    account: Uuid,
    kind: &'a str,
    secret: &'a str,
    counter: i64,
    created_at: DateTime<Utc>,
}

/// What a login needs: the password's hash and the TOTP secret, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// The password.
    pub password: Option<Credential>,
    /// TOTP.
    pub totp: Option<Credential>,
}

/// The credentials by which somebody logs in.
///
/// # Errors
/// When the database refuses.
pub async fn of_login(connection: &mut AsyncPgConnection, account: Uuid) -> Result<Login, StoreError> {
    let rows: Vec<Credential> = credentials::table
        .filter(credentials::account.eq(account))
        .filter(credentials::kind.eq_any([Kind::Password.name(), Kind::Totp.name()]))
        .select(Credential::as_select())
        .load(connection)
        .await?;
    let mut login = Login::default();
    for row in rows {
        match row.kind.as_str() {
            "password" => login.password = Some(row),
            _ => login.totp = Some(row),
        }
    }
    Ok(login)
}

/// Adds a credential.
///
/// # Errors
/// When the database refuses.
pub async fn insert(
    connection: &mut AsyncPgConnection,
    (id, account): (Uuid, Uuid),
    kind: Kind,
    secret: &str,
    counter: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let row = NewRow { id, account, kind: kind.name(), secret, counter, created_at: now };
    diesel::insert_into(credentials::table).values(row).execute(connection).await?;
    Ok(())
}

/// Puts a new hash in the place of the password's; makes one where there was none.
///
/// # Errors
/// When the database refuses.
pub async fn set_password(
    connection: &mut AsyncPgConnection,
    (id, account): (Uuid, Uuid),
    hash: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let updated = diesel::update(credentials::table)
        .filter(credentials::account.eq(account))
        .filter(credentials::kind.eq(Kind::Password.name()))
        .set((credentials::secret.eq(hash), credentials::created_at.eq(now)))
        .execute(connection)
        .await?;
    if updated == 0 {
        insert(connection, (id, account), Kind::Password, hash, 0, now).await?;
    }
    Ok(())
}

/// Puts a better hash of the same password in the place of one, if that is still the one.
///
/// # Errors
/// When the database refuses.
pub async fn upgrade_password(
    connection: &mut AsyncPgConnection,
    credential: &Credential,
    hash: &str,
) -> Result<(), StoreError> {
    diesel::update(credentials::table.find(credential.id))
        .filter(credentials::secret.eq(&credential.secret))
        .set(credentials::secret.eq(hash))
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the credential is still as it was read.
///
/// # Errors
/// When the database refuses.
pub async fn is_unchanged(
    connection: &mut AsyncPgConnection,
    credential: &Credential,
) -> Result<bool, StoreError> {
    let secret: Option<String> = credentials::table
        .find(credential.id)
        .select(credentials::secret)
        .first(connection)
        .await
        .optional()?;
    Ok(secret.as_deref() == Some(&credential.secret))
}

/// The last TOTP step that counts as used: a step that is far ahead was used while the clock was wrong, and would refuse every code until then.
pub fn last_step(counter: i64, now: DateTime<Utc>) -> i64 {
    if counter > newest_step(now) { 0 } else { counter }
}

/// The newest step that a code can be of: one ahead, by a clock that is ahead as far as clocks may be.
fn newest_step(now: DateTime<Utc>) -> i64 {
    (now + stored_time::SKEW).timestamp() / totp::STEP_SECONDS + 1
}

/// Uses a TOTP step; false when it, or a later one, was used before.
///
/// # Errors
/// When the database refuses. Locks the credential.
pub async fn use_step(
    connection: &mut AsyncPgConnection,
    credential: Uuid,
    step: i64,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let used = diesel::update(credentials::table.find(credential))
        .filter(credentials::counter.lt(step).or(credentials::counter.gt(newest_step(now))))
        .set((credentials::counter.eq(step), credentials::used_at.eq(now)))
        .execute(connection)
        .await?;
    Ok(used == 1)
}

/// Uses a recovery code; false when it is none, or was used before.
///
/// # Errors
/// When the database refuses.
pub async fn use_code(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    hash: &str,
) -> Result<bool, StoreError> {
    let used = diesel::delete(credentials::table)
        .filter(credentials::account.eq(account))
        .filter(credentials::kind.eq(Kind::RecoveryCode.name()))
        .filter(credentials::secret.eq(hash))
        .execute(connection)
        .await?;
    Ok(used == 1)
}

/// How many recovery codes are left.
///
/// # Errors
/// When the database refuses.
pub async fn codes_left(connection: &mut AsyncPgConnection, account: Uuid) -> Result<i64, StoreError> {
    Ok(credentials::table
        .filter(credentials::account.eq(account))
        .filter(credentials::kind.eq(Kind::RecoveryCode.name()))
        .count()
        .get_result(connection)
        .await?)
}

/// Removes all credentials of these kinds; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn remove(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    kinds: &[Kind],
) -> Result<usize, StoreError> {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    Ok(diesel::delete(credentials::table)
        .filter(credentials::account.eq(account))
        .filter(credentials::kind.eq_any(names))
        .execute(connection)
        .await?)
}
