//! What a person sees of their sessions, and how sessions end.

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use diesel::{ExpressionMethods, QueryDsl, Queryable, Selectable, SelectableHelper};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_schemas::{events::SessionsEnded, ids::AccountId};
use orrery_seal::Sealer;
use orrery_store::{StoreError, outbox::About};
use uuid::Uuid;

use crate::{
    account::change::{self, Change, Circumstances},
    schema::{refresh_tokens, sessions},
};

/// How long the row of a session is kept after its last use: longer than its refresh tokens.
pub const ROW_LIFETIME: Duration = Duration::days(30);
/// The most that are listed.
const LISTED: i64 = 200;

/// A session as its person sees it.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct Listed {
    /// Its id.
    pub id: Uuid,
    /// The client; none is the instance's own.
    pub client: Option<Uuid>,
    /// What it may do.
    pub scopes: String,
    /// How its person was authenticated.
    pub methods: Vec<String>,
    /// What the client said it is, sealed.
    pub device: Option<String>,
    /// When its person proved who they are.
    pub authenticated_at: DateTime<Utc>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed.
    pub used_at: DateTime<Utc>,
}

/// Sessions that have not ended, the newest first.
///
/// # Errors
/// When the database refuses.
pub async fn list(
    connection: &mut AsyncPgConnection,
    account: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<Listed>, StoreError> {
    Ok(sessions::table
        .filter(sessions::account.eq(account))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::used_at.gt(now - crate::token::refresh::LIFETIME))
        .order(sessions::created_at.desc())
        .limit(LISTED)
        .select(Listed::as_select())
        .load(connection)
        .await?)
}

/// The devices of an account's sessions, ended ones included; one that cannot be opened any more counts as unknown.
///
/// # Errors
/// When the database refuses.
pub async fn devices(
    connection: &mut AsyncPgConnection,
    sealer: &Sealer,
    account: Uuid,
) -> Result<Vec<Option<String>>, StoreError> {
    let rows: Vec<(Uuid, Option<String>)> = sessions::table
        .filter(sessions::account.eq(account))
        .order(sessions::created_at.desc())
        .limit(LISTED)
        .select((sessions::id, sessions::device))
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, device)| device.and_then(|device| open_device(sealer, id, &device)))
        .collect())
}

/// What a client said it is.
pub fn open_device(sealer: &Sealer, session: Uuid, sealed: &str) -> Option<String> {
    let plain = sealer.open(sealed, &session.to_string()).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

/// Ends one session of an account; whether there was one.
pub struct EndSession {
    /// Whose.
    pub account: Uuid,
    /// Which.
    pub session: Uuid,
}

#[async_trait]
impl Change for EndSession {
    type Done = bool;
    type Error = StoreError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<bool, StoreError> {
        if change::lock(connection, self.account).await?.is_none() {
            return Ok(false);
        }
        let ended = diesel::update(sessions::table.find(self.session))
            .filter(sessions::account.eq(self.account))
            .filter(sessions::ended_at.is_null())
            .set(sessions::ended_at.eq(with.now))
            .execute(connection)
            .await?;
        if ended == 1 {
            let tokens = refresh_tokens::table.filter(refresh_tokens::session.eq(self.session));
            diesel::delete(tokens).execute(connection).await?;
            tell_ended(connection, with, self.account, &[self.session]).await?;
        }
        Ok(ended == 1)
    }
}

/// Ends all sessions of an account, but for the one it may keep; how many.
pub struct EndSessions {
    /// Whose.
    pub account: Uuid,
    /// The one that goes on.
    pub keep: Option<Uuid>,
}

#[async_trait]
impl Change for EndSessions {
    type Done = usize;
    type Error = StoreError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<usize, StoreError> {
        if change::lock(connection, self.account).await?.is_none() {
            return Ok(0);
        }
        end_all(connection, with, self.account, self.keep).await
    }
}

/// Ends all sessions of an account, whose row is locked, but for one, and tells of it.
///
/// # Errors
/// When the database refuses. Locks the sessions.
pub async fn end_all(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
    keep: Option<Uuid>,
) -> Result<usize, StoreError> {
    let ended: Vec<Uuid> = diesel::update(sessions::table)
        .filter(sessions::account.eq(account))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::id.ne(keep.unwrap_or_default()))
        .set(sessions::ended_at.eq(with.now))
        .returning(sessions::id)
        .get_results(connection)
        .await?;
    diesel::delete(refresh_tokens::table.filter(refresh_tokens::session.eq_any(&ended)))
        .execute(connection)
        .await?;
    tell_ended(connection, with, account, &ended).await?;
    Ok(ended.len())
}

/// Tells whoever believes access tokens that these sessions ended.
///
/// # Errors
/// When the database refuses.
pub async fn tell_ended(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: Uuid,
    sessions: &[Uuid],
) -> Result<(), StoreError> {
    for some in sessions.chunks(SessionsEnded::MOST) {
        let ended = SessionsEnded { account: AccountId(account), sessions: some.to_vec() };
        let about = About { subject: Some(account), version: None, trace: Some(with.trace) };
        with.tools.outbox.event(connection, &ended, about).await?;
    }
    Ok(())
}

/// Removes rows of sessions that nobody can use any more, at most `limit`; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    let old: Vec<Uuid> = sessions::table
        .filter(sessions::used_at.lt(now - ROW_LIFETIME))
        .order(sessions::used_at)
        .limit(limit)
        .select(sessions::id)
        .load(connection)
        .await?;
    Ok(diesel::delete(sessions::table.filter(sessions::id.eq_any(old))).execute(connection).await?)
}
