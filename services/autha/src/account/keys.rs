//! The public keys of an account. How one is read lives in `credential::public_key`.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::error::ChangeError;
use crate::{credential::public_key::PublicKey, schema::public_keys};

/// The most that an account has.
pub const MOST: usize = 64;

/// What becomes of a key.
#[derive(Debug, Clone)]
pub enum KeyChange {
    /// It is added, unless the account has it.
    Add(PublicKey),
    /// The one of this id is removed; one that is not the account's is left alone.
    Remove(i64),
}

/// What became of keys.
#[derive(Debug, Default)]
pub struct KeysDone {
    /// The ids of the new ones.
    pub added: Vec<i64>,
    /// Whether any was added or removed.
    pub is_changed: bool,
}

#[derive(Insertable)]
#[diesel(table_name = public_keys)]
struct NewRow<'a> {
    account: Uuid,
    pem: &'a str,
    fingerprint: &'a [u8],
    created_at: DateTime<Utc>,
}

/// Adds and removes keys of an account, whose row is locked.
///
/// # Errors
/// When there would be too many, or the database refuses.
pub async fn apply(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    changes: &[KeyChange],
    now: DateTime<Utc>,
) -> Result<KeysDone, ChangeError> {
    let mut done = KeysDone::default();
    for change in changes {
        match change {
            KeyChange::Remove(id) => {
                let own = public_keys::table.find(id).filter(public_keys::account.eq(account));
                done.is_changed |= diesel::delete(own).execute(connection).await? == 1;
            }
            KeyChange::Add(key) => {
                let row = NewRow { account, pem: &key.pem, fingerprint: &key.fingerprint, created_at: now };
                let added: Option<i64> = diesel::insert_into(public_keys::table)
                    .values(row)
                    .on_conflict_do_nothing()
                    .returning(public_keys::id)
                    .get_result(connection)
                    .await
                    .optional()?;
                done.is_changed |= added.is_some();
                done.added.extend(added);
            }
        }
    }
    let count: i64 =
        public_keys::table.filter(public_keys::account.eq(account)).count().get_result(connection).await?;
    if usize::try_from(count).unwrap_or(usize::MAX) > MOST {
        return Err(ChangeError::TooManyKeys(MOST));
    }
    Ok(done)
}
