//! Messages that wait for their recipient. One is leased to the socket that it is handed to, so that no other gets it meanwhile, and removed when it
//! was received.

use chrono::{DateTime, Utc};
use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl, Queryable};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use tracing::error;
use uuid::Uuid;

use super::{
    Store, StoreFault,
    schema::{messages, relations},
};
use crate::{metrics, name::Name};

/// How many are handed over at once.
const BATCH: i64 = 50;

/// A message as its recipient gets it.
#[derive(Debug, Serialize)]
pub struct Waiting {
    /// Its id: one that is handed over twice has it twice.
    pub id: Uuid,
    /// Who wrote it.
    pub sender: String,
    /// What.
    pub content: String,
    /// When.
    pub sent_at: DateTime<Utc>,
}

/// A message was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// As many wait as may.
    #[error("as many messages wait as may")]
    Full,
    /// The store.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

impl From<orrery_store::StoreError> for Refused {
    fn from(error: orrery_store::StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<diesel::result::Error> for Refused {
    fn from(error: diesel::result::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Body {
    sender: Name,
    content: String,
}

#[derive(Queryable)]
struct Row {
    id: Uuid,
    recipient: Vec<u8>,
    body: String,
    created_at: DateTime<Utc>,
}

/// Whether nobody holds a message. A lease that ends later than any can was given while the clock was ahead, and is none.
#[diesel::dsl::auto_type]
fn free(now: DateTime<Utc>, lease_time: chrono::Duration) -> _ {
    let latest: DateTime<Utc> = now + lease_time * 2;
    let leased_until = messages::leased_until;
    leased_until.is_null().or(leased_until.lt(now)).or(leased_until.gt(latest))
}

impl Store {
    /// Keeps a message, and gives its id. One for a recipient that blocks its sender is not kept, and not even its sender learns of it.
    ///
    /// # Errors
    /// When too many wait already; when the database refuses.
    pub async fn put_message(&self, sender: &Name, recipient: &Name, content: &str) -> Result<Uuid, Refused> {
        let seal = || {
            let digest = self.digest(recipient)?;
            let body = Body { sender: sender.clone(), content: content.to_owned() };
            let plain = serde_json::to_vec(&body).map_err(|_| StoreFault::Unreadable)?;
            let sealed = self.bodies.seal(&plain, &hex::encode(&digest))?;
            Ok::<_, StoreFault>((digest, self.digest(sender)?, sealed))
        };
        let (to, from, sealed) = seal()?;
        let (to_all, from_all) = (self.digests(recipient), self.digests(sender));
        let (id, now) = (self.random.uuid_v7(&self.clock), self.clock.now());
        let until = now + chrono::Duration::from_std(self.config.message_lifetime).unwrap_or_default();
        let most = i64::from(self.config.messages_per_recipient);
        let most_sent = i64::from(self.config.messages_per_sender);
        self.pool
            .run(move |mut connection| async move {
                let blocked: i64 = relations::table
                    .filter(relations::peer.eq_any(&to_all))
                    .filter(relations::other.eq_any(&from_all))
                    .filter(relations::kind.eq("blocked"))
                    .count()
                    .get_result(&mut connection)
                    .await?;
                if blocked > 0 {
                    return Ok(id);
                }
                let sent: i64 = messages::table
                    .filter(messages::sender.eq_any(&from_all))
                    .count()
                    .get_result(&mut connection)
                    .await?;
                let waiting: i64 = messages::table
                    .filter(messages::recipient.eq_any(&to_all))
                    .count()
                    .get_result(&mut connection)
                    .await?;
                if sent >= most_sent || waiting >= most {
                    return Err(Refused::Full);
                }
                diesel::insert_into(messages::table)
                    .values((
                        messages::id.eq(id),
                        messages::recipient.eq(to),
                        messages::sender.eq(from),
                        messages::body.eq(sealed),
                        messages::created_at.eq(now),
                        messages::expires_at.eq(until),
                    ))
                    .execute(&mut connection)
                    .await?;
                Ok(id)
            })
            .await
    }

    /// How long a lease of messages lasts: longer than a receipt may take.
    fn lease_time(&self) -> chrono::Duration {
        chrono::Duration::from_std(self.config.write_timeout * 4).unwrap_or_default()
    }

    /// Leases some of the messages that wait for a peer, the oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn lease_messages(&self, recipient: &Name, lease: Uuid) -> Result<Vec<Waiting>, StoreFault> {
        let (digests, now) = (self.digests(recipient), self.clock.now());
        let lease_time = self.lease_time();
        let until = now + lease_time;
        let mut rows: Vec<Row> = self
            .pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, StoreFault, _>(async |connection| {
                        let ids: Vec<Uuid> = messages::table
                            .filter(messages::recipient.eq_any(&digests))
                            .filter(messages::expires_at.gt(now))
                            .filter(free(now, lease_time))
                            .order(messages::id)
                            .limit(BATCH)
                            .select(messages::id)
                            .for_update()
                            .skip_locked()
                            .load(connection)
                            .await?;
                        if ids.is_empty() {
                            return Ok(Vec::new());
                        }
                        let rows = diesel::update(messages::table.filter(messages::id.eq_any(ids)))
                            .set((messages::lease.eq(lease), messages::leased_until.eq(until)))
                            .returning((
                                messages::id,
                                messages::recipient,
                                messages::body,
                                messages::created_at,
                            ))
                            .get_results(connection)
                            .await?;
                        Ok(rows)
                    })
                    .await
            })
            .await?;
        rows.sort_by_key(|row| row.id);
        let mut waiting = Vec::with_capacity(rows.len());
        for row in rows {
            match self.open(&row) {
                Ok(body) => waiting.push(Waiting {
                    id: row.id,
                    sender: body.sender.into(),
                    content: body.content,
                    sent_at: row.created_at,
                }),
                Err(error) => {
                    // It stays until it expires: the key may be added to the former ones.
                    error!(%error, id = %row.id, "a message cannot be opened");
                    metrics::messages("unreadable", 1);
                }
            }
        }
        Ok(waiting)
    }

    fn open(&self, row: &Row) -> Result<Body, StoreFault> {
        let plain = self.bodies.open(&row.body, &hex::encode(&row.recipient))?;
        serde_json::from_slice(&plain).map_err(|_| StoreFault::Unreadable)
    }

    /// Removes messages that were received by whom they were leased to.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn received(&self, lease: Uuid, ids: Vec<Uuid>) -> Result<(), StoreFault> {
        self.pool
            .run(move |mut connection| async move {
                let own = messages::table.filter(messages::id.eq_any(ids)).filter(messages::lease.eq(lease));
                diesel::delete(own).execute(&mut connection).await?;
                Ok(())
            })
            .await
    }

    /// Gives back what is leased by `lease`; returns how many that are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release(&self, lease: Uuid) -> Result<usize, StoreFault> {
        self.pool
            .run(move |mut connection| async move {
                let (nobody, never) = (None::<Uuid>, None::<DateTime<Utc>>);
                let own = messages::table.filter(messages::lease.eq(lease));
                let free = (messages::lease.eq(nobody), messages::leased_until.eq(never));
                Ok(diesel::update(own).set(free).execute(&mut connection).await?)
            })
            .await
    }

    /// For which of these peers messages wait that nobody holds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn waiting_among(&self, names: Vec<Name>) -> Result<Vec<Name>, StoreFault> {
        let by_digest: std::collections::HashMap<Vec<u8>, Name> = names
            .iter()
            .flat_map(|name| self.digests(name).into_iter().map(|digest| (digest, name.clone())))
            .collect();
        let (digests, now): (Vec<_>, _) = (by_digest.keys().cloned().collect(), self.clock.now());
        let lease_time = self.lease_time();
        let found: Vec<Vec<u8>> = self
            .pool
            .run(move |mut connection| async move {
                let found = messages::table
                    .filter(messages::recipient.eq_any(&digests))
                    .filter(messages::expires_at.gt(now))
                    .filter(free(now, lease_time))
                    .select(messages::recipient)
                    .distinct()
                    .load(&mut connection)
                    .await?;
                Ok::<_, StoreFault>(found)
            })
            .await?;
        Ok(found.iter().filter_map(|digest| by_digest.get(digest).cloned()).collect())
    }

    /// Removes messages that nobody fetched in time, at most `limit`; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune_messages(&self, limit: i64) -> Result<usize, StoreFault> {
        let now = self.clock.now();
        self.pool
            .run(move |mut connection| async move {
                let old: Vec<Uuid> = messages::table
                    .filter(messages::expires_at.le(now))
                    .order(messages::expires_at)
                    .limit(limit)
                    .select(messages::id)
                    .load(&mut connection)
                    .await?;
                let gone = messages::table.filter(messages::id.eq_any(old));
                Ok(diesel::delete(gone).execute(&mut connection).await?)
            })
            .await
    }
}
