//! The last offer of each peer, for as long as it may be answered.

use diesel::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::RunQueryDsl;

use super::{Store, StoreFault, schema::offers};
use crate::name::Name;

impl Store {
    /// Keeps the session description of an offer in place of the one before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn keep_offer(&self, name: &Name, sdp: &str) -> Result<(), StoreFault> {
        let digest = self.digest(name)?;
        let sealed = self.bodies.seal(sdp.as_bytes(), &hex::encode(&digest))?;
        let lifetime = chrono::Duration::from_std(self.config.offer_lifetime).unwrap_or_default();
        let until = self.clock.now() + lifetime;
        self.pool
            .run(move |mut connection| async move {
                diesel::insert_into(offers::table)
                    .values((
                        offers::peer.eq(&digest),
                        offers::body.eq(&sealed),
                        offers::expires_at.eq(until),
                    ))
                    .on_conflict(offers::peer)
                    .do_update()
                    .set((offers::body.eq(&sealed), offers::expires_at.eq(until)))
                    .execute(&mut connection)
                    .await?;
                Ok(())
            })
            .await
    }

    /// The session description of a peer's last offer, while it lives.
    ///
    /// # Errors
    /// When the database refuses, or what was kept cannot be read.
    pub async fn offer(&self, name: &Name) -> Result<Option<String>, StoreFault> {
        let (digests, now) = (self.digests(name), self.clock.now());
        let row: Option<(Vec<u8>, String)> = self
            .pool
            .run(move |mut connection| async move {
                let found = offers::table
                    .filter(offers::peer.eq_any(&digests))
                    .filter(offers::expires_at.gt(now))
                    .order(offers::expires_at.desc())
                    .select((offers::peer, offers::body))
                    .first(&mut connection)
                    .await
                    .optional()?;
                Ok::<_, StoreFault>(found)
            })
            .await?;
        let Some((peer, sealed)) = row else { return Ok(None) };
        let opened = self.bodies.open(&sealed, &hex::encode(peer))?;
        String::from_utf8(opened.to_vec()).map(Some).map_err(|_| StoreFault::Unreadable)
    }

    /// Removes offers that have expired, at most `limit`; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune_offers(&self, limit: i64) -> Result<usize, StoreFault> {
        let now = self.clock.now();
        self.pool
            .run(move |mut connection| async move {
                let old: Vec<Vec<u8>> = offers::table
                    .filter(offers::expires_at.le(now))
                    .order(offers::expires_at)
                    .limit(limit)
                    .select(offers::peer)
                    .load(&mut connection)
                    .await?;
                // One that was renewed meanwhile stays.
                let gone = offers::table.filter(offers::peer.eq_any(old)).filter(offers::expires_at.le(now));
                Ok(diesel::delete(gone).execute(&mut connection).await?)
            })
            .await
    }
}
