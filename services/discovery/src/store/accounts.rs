//! Which peer an account is, as far as the end of its sessions has told, and the removal of what is kept of a deleted one. Within the
//! transaction of the event that asks for it.

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::ids::AccountId;
use orrery_store::StoreError;
use uuid::Uuid;

use super::schema::{accounts, messages, offers, peers, relations, sessions};

/// An ended session is remembered longer than its last access token lives, with all skew.
const REMEMBERED_HOURS: i64 = 2;

/// Remembers that these sessions ended, and which peer their account is.
///
/// # Errors
/// When the database refuses.
pub async fn end_sessions(
    connection: &mut AsyncPgConnection,
    account: AccountId,
    ended: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let known: Vec<Option<Vec<u8>>> = sessions::table
        .filter(sessions::session.eq_any(ended))
        .filter(sessions::peer.is_not_null())
        .select(sessions::peer)
        .limit(1)
        .load(connection)
        .await?;
    let until = now + chrono::Duration::hours(REMEMBERED_HOURS);
    let rows: Vec<_> = ended
        .iter()
        .map(|session| {
            (sessions::session.eq(*session), sessions::ended_at.eq(Some(now)), sessions::kept_until.eq(until))
        })
        .collect();
    diesel::insert_into(sessions::table)
        .values(rows)
        .on_conflict(sessions::session)
        .do_update()
        .set((sessions::ended_at.eq(Some(now)), sessions::kept_until.eq(until)))
        .execute(connection)
        .await?;
    let Some(peer) = known.into_iter().flatten().next() else { return Ok(()) };
    diesel::insert_into(accounts::table)
        .values((accounts::account.eq(account.0), accounts::peer.eq(Some(&peer))))
        .on_conflict(accounts::account)
        .do_update()
        .set(accounts::peer.eq(Some(&peer)))
        .execute(connection)
        .await?;
    let deleted_at: Option<DateTime<Utc>> =
        accounts::table.find(account.0).select(accounts::deleted_at).first(connection).await?;
    if deleted_at.is_some() {
        // The deletion was told before the end of its sessions.
        erase_peer(connection, account, &peer).await?;
    }
    Ok(())
}

/// Removes all that is kept of an account; what comes to be known of it later is removed then.
///
/// # Errors
/// When the database refuses.
pub async fn erase(
    connection: &mut AsyncPgConnection,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    diesel::insert_into(accounts::table)
        .values((accounts::account.eq(account.0), accounts::deleted_at.eq(Some(now))))
        .on_conflict(accounts::account)
        .do_update()
        .set(accounts::deleted_at.eq(Some(now)))
        .execute(connection)
        .await?;
    let peer: Option<Option<Vec<u8>>> =
        accounts::table.find(account.0).select(accounts::peer).first(connection).await.optional()?;
    match peer.flatten() {
        Some(peer) => erase_peer(connection, account, &peer).await,
        None => Ok(()),
    }
}

async fn erase_peer(
    connection: &mut AsyncPgConnection,
    account: AccountId,
    peer: &[u8],
) -> Result<(), StoreError> {
    // Each by its own index.
    diesel::delete(messages::table.filter(messages::recipient.eq(peer))).execute(connection).await?;
    diesel::delete(messages::table.filter(messages::sender.eq(peer))).execute(connection).await?;
    diesel::delete(relations::table.filter(relations::peer.eq(peer))).execute(connection).await?;
    diesel::delete(relations::table.filter(relations::other.eq(peer))).execute(connection).await?;
    diesel::delete(offers::table.filter(offers::peer.eq(peer))).execute(connection).await?;
    diesel::delete(peers::table.filter(peers::peer.eq(peer))).execute(connection).await?;
    diesel::update(accounts::table.find(account.0))
        .set(accounts::peer.eq(None::<Vec<u8>>))
        .execute(connection)
        .await?;
    Ok(())
}
