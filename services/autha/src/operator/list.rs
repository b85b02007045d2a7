//! What operators see of accounts and deletions. Addresses are opened one at a time, for one account.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    account::vanity::Vanity,
    credential::store as credentials,
    schema::{accounts, deletion_receipts, deletions, sessions},
    vault::Vault,
};

/// An account in a list.
#[derive(Debug, Clone, Queryable, Selectable, Serialize)]
#[diesel(table_name = accounts)]
pub struct ListedAccount {
    /// Its internal id.
    pub id: Uuid,
    /// The name that it is found by.
    pub vanity: String,
    /// The name as it is shown.
    pub username: String,
    /// The language.
    pub locale: String,
    /// The row's version.
    pub version: i64,
    /// When the address was verified.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// When it came to be.
    pub created_at: DateTime<Utc>,
    /// When it was suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// When it is gone.
    pub purge_at: Option<DateTime<Utc>>,
}

/// Which accounts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those that are suspended.
    Suspended,
    /// Those that wait to be deleted.
    Deleted,
}

/// One account with all that its operator may see.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The account.
    #[serde(flatten)]
    pub account: ListedAccount,
    /// The address as typed.
    pub email: String,
    /// Whether TOTP is set up.
    pub totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    /// Sessions that have not ended.
    pub sessions: i64,
}

/// Accounts in the order in which they came to be; `after` is the last id of the page before.
///
/// # Errors
/// When the database refuses.
pub async fn list(
    connection: &mut AsyncPgConnection,
    filter: Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedAccount>, StoreError> {
    let mut query =
        accounts::table.order(accounts::id).limit(limit).select(ListedAccount::as_select()).into_boxed();
    if let Some(after) = after {
        query = query.filter(accounts::id.gt(after));
    }
    query = match filter {
        Filter::All => query,
        Filter::Suspended => query.filter(accounts::suspended_at.is_not_null()),
        Filter::Deleted => query.filter(accounts::purge_at.is_not_null()),
    };
    Ok(query.load(connection).await?)
}

/// The account that an operator means: by internal id, by name, or by address.
///
/// # Errors
/// When the database refuses.
pub async fn by_reference(
    connection: &mut AsyncPgConnection,
    vault: &Vault,
    reference: &str,
) -> Result<Option<ListedAccount>, StoreError> {
    let mut query = accounts::table.select(ListedAccount::as_select()).into_boxed();
    query = if let Ok(id) = reference.parse::<Uuid>() {
        query.filter(accounts::id.eq(id))
    } else if let Ok(address) = orrery_schemas::address::Address::parse(reference, true) {
        query.filter(accounts::email_hash.eq_any(vault.email.macs(address.normal().as_bytes())))
    } else if let Some(vanity) = Vanity::parse(reference) {
        query.filter(accounts::vanity.eq(vanity.key))
    } else {
        return Ok(None);
    };
    Ok(query.first(connection).await.optional()?)
}

/// All that an operator may see of one account.
///
/// # Errors
/// When the database refuses.
pub async fn show(
    connection: &mut AsyncPgConnection,
    vault: &Vault,
    account: ListedAccount,
) -> Result<Shown, StoreError> {
    let sealed: String =
        accounts::table.find(account.id).select(accounts::email_typed).first(connection).await?;
    let email = match vault.email.open(&sealed, &account.id.to_string()) {
        Ok(plain) => String::from_utf8_lossy(&plain).into_owned(),
        Err(error) => format!("({error})"),
    };
    let login = credentials::of_login(connection, account.id).await?;
    let live: i64 = sessions::table
        .filter(sessions::account.eq(account.id))
        .filter(sessions::ended_at.is_null())
        .count()
        .get_result(connection)
        .await?;
    Ok(Shown {
        email,
        totp: login.totp.is_some(),
        recovery_codes: credentials::codes_left(connection, account.id).await?,
        sessions: live,
        account,
    })
}

/// An account that is gone, and who has said so.
#[derive(Debug, Clone, Serialize)]
pub struct Deleted {
    /// Its internal id.
    pub account: Uuid,
    /// When its rows were removed.
    pub purged_at: DateTime<Utc>,
    /// Whether its objects are removed too.
    pub objects_removed: bool,
    /// Who holds nothing of it any more, and since when it was said.
    pub receipts: Vec<(String, DateTime<Utc>)>,
}

/// Accounts that are gone, the newest first.
///
/// # Errors
/// When the database refuses.
pub async fn deletions(connection: &mut AsyncPgConnection, limit: i64) -> Result<Vec<Deleted>, StoreError> {
    let rows = deletions::table
        .order(deletions::purged_at.desc())
        .limit(limit)
        .select((deletions::account, deletions::purged_at, deletions::objects))
        .load(connection)
        .await?;
    with_receipts(connection, rows).await
}

/// One account that is gone, by its internal id: nothing else of it is known.
///
/// # Errors
/// When the database refuses.
pub async fn deletion(
    connection: &mut AsyncPgConnection,
    account: Uuid,
) -> Result<Option<Deleted>, StoreError> {
    let rows = deletions::table
        .find(account)
        .select((deletions::account, deletions::purged_at, deletions::objects))
        .load(connection)
        .await?;
    Ok(with_receipts(connection, rows).await?.pop())
}

async fn with_receipts(
    connection: &mut AsyncPgConnection,
    rows: Vec<(Uuid, DateTime<Utc>, Vec<String>)>,
) -> Result<Vec<Deleted>, StoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|(id, ..)| *id).collect();
    let receipts: Vec<(Uuid, String, DateTime<Utc>)> = deletion_receipts::table
        .filter(deletion_receipts::account.eq_any(ids))
        .order((deletion_receipts::account, deletion_receipts::holder))
        .select((deletion_receipts::account, deletion_receipts::holder, deletion_receipts::received_at))
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(account, purged_at, objects)| Deleted {
            account,
            purged_at,
            objects_removed: objects.is_empty(),
            receipts: receipts
                .iter()
                .filter(|(of, ..)| *of == account)
                .map(|(_, holder, at)| (holder.clone(), *at))
                .collect(),
        })
        .collect())
}
