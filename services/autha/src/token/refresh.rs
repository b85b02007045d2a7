//! Refresh tokens: 64 characters, stored only as hashes, under a session. A stolen token's use ends its session.

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Duration, Utc};
use diesel::{
    ExpressionMethods, Insertable, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_seal::{SealError, Sealer, sha256};
use orrery_store::StoreError;
use orrery_supervise::random::Random;
use uuid::Uuid;

use crate::{
    account::change::{self, Change, Circumstances, Conflicting},
    schema::{refresh_tokens, sessions},
    session::tell_ended,
    stored_time,
};

/// How long a refresh token is valid.
pub const LIFETIME: Duration = Duration::days(15);
/// How long after its use a token still gives its successor, while that is unused: a client whose answer was lost keeps its session.
const RETRY_WINDOW: Duration = Duration::minutes(15);

/// A refresh token in the clear; it lives only in answers.
#[derive(Clone)]
pub struct RefreshToken(String);

/// Why no new token was given.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Unknown, expired, of a session that has ended or an account that is not there, or used before.
    #[error("the refresh token is not valid any more; log in again")]
    Invalid,
    /// The account is suspended.
    #[error("this account is suspended; ask the operator of this instance")]
    Suspended,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The successor could not be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Conflicting for RefreshError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
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
    /// Its session.
    pub session: Session,
}

/// What the tokens of a session say.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// What it may do.
    pub scopes: String,
    /// How its person was authenticated.
    pub methods: Vec<String>,
    /// When.
    pub authenticated_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// A token's row.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = refresh_tokens)]
pub struct Row {
    /// Its session.
    pub session: Uuid,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it was exchanged.
    pub used_at: Option<DateTime<Utc>>,
    successor: Option<Vec<u8>>,
}

#[derive(Insertable)]
#[diesel(table_name = refresh_tokens)]
struct NewRow {
    hash: Vec<u8>,
    session: Uuid,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

impl RefreshToken {
    /// A new one.
    pub fn random(random: &Random) -> Self {
        Self(BASE64.encode(random.bytes::<48>()))
    }

    /// What `token` may have been exchanged for: one under each key of the ring, the current one first.
    fn successors(sealer: &Sealer, token: &str) -> impl Iterator<Item = Self> {
        let halves = |n: u8| sealer.macs(format!("{n}.{token}").as_bytes());
        halves(1).into_iter().zip(halves(2)).map(|(mut bytes, second)| {
            bytes.extend(second);
            bytes.truncate(48);
            Self(BASE64.encode(bytes))
        })
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

/// Writes the first token of a session.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    token: &RefreshToken,
    session: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    insert(connection, token, session, now).await
}

/// The row of a token and its session, not locked.
///
/// # Errors
/// When the database refuses.
pub async fn find(
    connection: &mut AsyncPgConnection,
    token: &str,
) -> Result<Option<(Row, Session)>, StoreError> {
    // No join: kept prepared it could be walked along all rows (decision 23).
    let row: Option<Row> = refresh_tokens::table
        .find(sha256(token.as_bytes()))
        .select(Row::as_select())
        .first(connection)
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let session = session(connection, row.session).await?;
    Ok(session.map(|session| (row, session)))
}

/// A session, not locked.
///
/// # Errors
/// When the database refuses.
pub async fn session(connection: &mut AsyncPgConnection, id: Uuid) -> Result<Option<Session>, StoreError> {
    Ok(sessions::table.find(id).select(Session::as_select()).first(connection).await.optional()?)
}

/// Exchanges a refresh token. `None` where it is not valid: then its session may have been ended.
pub struct RotateToken {
    /// The token.
    pub token: String,
}

#[async_trait]
impl Change for RotateToken {
    type Done = Option<Rotated>;
    type Error = RefreshError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<Option<Rotated>, RefreshError> {
        let now = with.now;
        let Some((_, session)) = find(connection, &self.token).await? else { return Ok(None) };
        // Only now are locks taken, in the order of all changes; what was read before is read again under them.
        let Some(account) = change::lock(connection, session.account).await? else { return Ok(None) };
        let session: Option<Session> = sessions::table
            .find(session.id)
            .filter(sessions::ended_at.is_null())
            .select(Session::as_select())
            .for_update()
            .first(connection)
            .await
            .optional()?;
        let Some(session) = session else { return Ok(None) };
        let hash = sha256(self.token.as_bytes());
        let row: Option<Row> = refresh_tokens::table
            .find(&hash)
            .select(Row::as_select())
            .for_update()
            .first(connection)
            .await
            .optional()?;
        let Some(row) = row.filter(|row| row.expires_at > now) else { return Ok(None) };
        if account.purge_at.is_some() {
            return Ok(None);
        }
        if account.suspended_at.is_some() {
            return Err(RefreshError::Suspended);
        }
        let sealer = &with.tools.vault.refresh;
        let Some(used_at) = row.used_at else {
            let next = RefreshToken::successors(sealer, &self.token).next().ok_or(SealError::UnknownKey)?;
            insert(connection, &next, session.id, now).await?;
            diesel::update(refresh_tokens::table.find(&hash))
                .set((refresh_tokens::used_at.eq(now), refresh_tokens::successor.eq(next.hash())))
                .execute(connection)
                .await?;
            diesel::update(sessions::table.find(session.id))
                .set(sessions::used_at.eq(now))
                .execute(connection)
                .await?;
            return Ok(Some(Rotated { token: next, vanity: account.vanity, session }));
        };
        let next = RefreshToken::successors(sealer, &self.token)
            .find(|next| row.successor.as_deref() == Some(next.hash().as_slice()));
        if let Some(next) = next.filter(|_| stored_time::is_within(used_at, RETRY_WINDOW, now))
            && is_unused(connection, &next).await?
        {
            return Ok(Some(Rotated { token: next, vanity: account.vanity, session }));
        }
        end(connection, with, &session).await?;
        Ok(None)
    }
}

/// Ends the session of a refresh token (RFC 7009); a token that is not known is none.
pub struct RevokeToken {
    /// The token.
    pub token: String,
}

#[async_trait]
impl Change for RevokeToken {
    type Done = ();
    type Error = StoreError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), StoreError> {
        let Some((_, session)) = find(connection, &self.token).await? else { return Ok(()) };
        if change::lock(connection, session.account).await?.is_some() {
            end(connection, with, &session).await?;
        }
        Ok(())
    }
}

/// Ends a session whose account is locked, and tells of it.
///
/// # Errors
/// When the database refuses. Locks the session, then its tokens.
pub async fn end(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    session: &Session,
) -> Result<(), StoreError> {
    let ended = diesel::update(sessions::table.find(session.id))
        .filter(sessions::ended_at.is_null())
        .set(sessions::ended_at.eq(with.now))
        .execute(connection)
        .await?;
    diesel::delete(refresh_tokens::table.filter(refresh_tokens::session.eq(session.id)))
        .execute(connection)
        .await?;
    if ended == 1 {
        tell_ended(connection, with, session.account, &[session.id]).await?;
    }
    Ok(())
}

/// Removes expired tokens, at most `limit`; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<usize, StoreError> {
    let old: Vec<Vec<u8>> = refresh_tokens::table
        .filter(refresh_tokens::expires_at.lt(now))
        .order(refresh_tokens::expires_at)
        .limit(limit)
        .select(refresh_tokens::hash)
        .load(connection)
        .await?;
    Ok(diesel::delete(refresh_tokens::table.filter(refresh_tokens::hash.eq_any(old)))
        .execute(connection)
        .await?)
}

async fn is_unused(connection: &mut AsyncPgConnection, token: &RefreshToken) -> Result<bool, StoreError> {
    let unused = refresh_tokens::table
        .filter(refresh_tokens::hash.eq(token.hash()))
        .filter(refresh_tokens::used_at.is_null())
        .count()
        .get_result::<i64>(connection)
        .await?;
    Ok(unused == 1)
}

async fn insert(
    connection: &mut AsyncPgConnection,
    token: &RefreshToken,
    session: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let row = NewRow { hash: token.hash(), session, issued_at: now, expires_at: now + LIFETIME };
    diesel::insert_into(refresh_tokens::table).values(row).execute(connection).await?;
    Ok(())
}
