//! Sessions of access tokens: which one a socket was opened with, and which have ended. A token is believed until then or its expiry.

use std::collections::HashSet;

use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, StoreFault, schema::sessions};
use crate::name::Name;

/// A row of a live session is kept so long after its last socket, for the end of it to find the peer.
const KEPT_DAYS: i64 = 60;

impl Store {
    /// A socket is to be opened with a token of this session; whether the session goes on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn session_goes_on(&self, session: Uuid, name: &Name) -> Result<bool, StoreFault> {
        let (digest, until) = (self.digest(name)?, self.clock.now() + chrono::Duration::days(KEPT_DAYS));
        self.pool
            .run(move |mut connection| async move {
                let ended_at: Option<chrono::DateTime<chrono::Utc>> = diesel::insert_into(sessions::table)
                    .values((
                        sessions::session.eq(session),
                        sessions::peer.eq(Some(&digest)),
                        sessions::kept_until.eq(until),
                    ))
                    .on_conflict(sessions::session)
                    .do_update()
                    .set((sessions::peer.eq(Some(&digest)), sessions::kept_until.eq(until)))
                    .returning(sessions::ended_at)
                    .get_result(&mut connection)
                    .await?;
                Ok(ended_at.is_none())
            })
            .await
    }

    /// Whether a session is known to have ended.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn has_ended(&self, session: Uuid) -> Result<bool, StoreFault> {
        Ok(!self.ended_among(HashSet::from([session])).await?.is_empty())
    }

    /// Which of these sessions are known to have ended.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ended_among(&self, some: HashSet<Uuid>) -> Result<Vec<Uuid>, StoreFault> {
        self.pool
            .run(move |mut connection| async move {
                let found = sessions::table
                    .filter(sessions::session.eq_any(some))
                    .filter(sessions::ended_at.is_not_null())
                    .select(sessions::session)
                    .load(&mut connection)
                    .await?;
                Ok(found)
            })
            .await
    }

    /// Removes rows that no token can need any more, at most `limit`; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune_sessions(&self, limit: i64) -> Result<usize, StoreFault> {
        let now = self.clock.now();
        self.pool
            .run(move |mut connection| async move {
                let old: Vec<Uuid> = sessions::table
                    .filter(sessions::kept_until.le(now))
                    .order(sessions::kept_until)
                    .limit(limit)
                    .select(sessions::session)
                    .load(&mut connection)
                    .await?;
                let gone = sessions::table.filter(sessions::session.eq_any(old));
                Ok(diesel::delete(gone).execute(&mut connection).await?)
            })
            .await
    }
}
