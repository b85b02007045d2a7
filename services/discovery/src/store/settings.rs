//! What peers have chosen: who may see them, whom they know, whom they block.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use super::{
    Store, StoreFault,
    schema::{peers, relations},
};
use crate::{
    name::Name,
    presence::{Profile, Visibility},
};

/// What a peer is to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It knows it.
    Contact,
    /// It wants to hear nothing of it.
    Blocked,
}

impl Relation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Blocked => "blocked",
        }
    }
}

/// A peer has as many contacts, or blocks as many, as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyRelations;

impl Store {
    /// What a peer has chosen, or the default.
    ///
    /// # Errors
    /// When the database refuses, or what was kept cannot be read.
    pub async fn profile(&self, name: &Name) -> Result<Profile, StoreFault> {
        let (digests, store) = (self.digests(name), self.clone());
        self.pool
            .run(move |mut connection| async move {
                let visibility = visibility(&mut connection, &digests).await?;
                let rows: Vec<(Vec<u8>, Vec<u8>, String, String)> = relations::table
                    .filter(relations::peer.eq_any(&digests))
                    .select((relations::peer, relations::other, relations::kind, relations::name))
                    .load(&mut connection)
                    .await?;
                let (mut contacts, mut blocked) = (HashSet::new(), HashSet::new());
                for (peer, _, kind, sealed) in rows {
                    let opened = store.bodies.open(&sealed, &hex::encode(peer))?;
                    let text = std::str::from_utf8(&opened).map_err(|_| StoreFault::Unreadable)?;
                    let name = Name::new(text).map_err(|_| StoreFault::Unreadable)?;
                    let is_contact = kind == Relation::Contact.as_str();
                    if is_contact { &mut contacts } else { &mut blocked }.insert(name);
                }
                let visibility = visibility.unwrap_or(store.config.default_visibility);
                Ok::<_, StoreFault>(Profile { visibility, contacts, blocked })
            })
            .await
    }

    /// Whether `viewer` may know of `peer`, as far as `peer` is concerned.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn lets_see(&self, peer: &Name, viewer: &Name) -> Result<bool, StoreFault> {
        let (own, other) = (self.digests(peer), self.digests(viewer));
        let default = self.config.default_visibility;
        self.pool
            .run(move |mut connection| async move {
                let visibility = visibility(&mut connection, &own).await?.unwrap_or(default);
                let relation: Option<String> = relations::table
                    .filter(relations::peer.eq_any(&own))
                    .filter(relations::other.eq_any(&other))
                    .select(relations::kind)
                    .first(&mut connection)
                    .await
                    .optional()?;
                let is = |relation_: Relation| relation.as_deref() == Some(relation_.as_str());
                Ok::<_, StoreFault>(match visibility {
                    _ if is(Relation::Blocked) => false,
                    Visibility::Public => true,
                    Visibility::Contacts => is(Relation::Contact),
                    Visibility::Hidden => false,
                })
            })
            .await
    }

    /// Says who may see a peer.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_visibility(&self, name: &Name, visibility: Visibility) -> Result<(), StoreFault> {
        let (digest, former, now) = (self.digest(name)?, self.digests(name), self.clock.now());
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, StoreFault, _>(async |connection| {
                        diesel::delete(peers::table.filter(peers::peer.eq_any(&former)))
                            .execute(connection)
                            .await?;
                        diesel::insert_into(peers::table)
                            .values((
                                peers::peer.eq(&digest),
                                peers::visibility.eq(Some(visibility.as_str())),
                                peers::changed_at.eq(now),
                            ))
                            .on_conflict(peers::peer)
                            .do_update()
                            .set((peers::visibility.eq(Some(visibility.as_str())), peers::changed_at.eq(now)))
                            .execute(connection)
                            .await?;
                        Ok(())
                    })
                    .await
            })
            .await
    }

    /// Which of these peers have changed what they have chosen within the last `time`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn changed_among(&self, names: Vec<Name>, time: Duration) -> Result<Vec<Name>, StoreFault> {
        let since = self.clock.now() - chrono::Duration::from_std(time).unwrap_or_default();
        let changed: HashSet<Vec<u8>> = self
            .pool
            .run(move |mut connection| async move {
                let found: Vec<Vec<u8>> = peers::table
                    .filter(peers::changed_at.gt(since))
                    .select(peers::peer)
                    .load(&mut connection)
                    .await?;
                Ok::<_, StoreFault>(found.into_iter().collect())
            })
            .await?;
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let has_changed = |name: &Name| self.digests(name).iter().any(|digest| changed.contains(digest));
        Ok(names.into_iter().filter(has_changed).collect())
    }

    /// Says what another is to a peer; whoever was a contact and is blocked is a contact no more, and the other way round.
    ///
    /// # Errors
    /// When the database refuses. The inner error is that there are as many as may be.
    pub async fn relate(
        &self,
        name: &Name,
        other: &Name,
        relation: Relation,
    ) -> Result<Result<(), TooManyRelations>, StoreFault> {
        let (digest, former) = (self.digest(name)?, self.digests(name));
        let (other_digest, other_former) = (self.digest(other)?, self.digests(other));
        let sealed = self.bodies.seal(other.as_str().as_bytes(), &hex::encode(&digest))?;
        let (most, now) = (i64::from(self.config.contacts), self.clock.now());
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, StoreFault, _>(async |connection| {
                        remove(connection, &former, &other_former, None).await?;
                        let own = relations::table.filter(relations::peer.eq_any(&former));
                        let count: i64 = own
                            .filter(relations::kind.eq(relation.as_str()))
                            .count()
                            .get_result(connection)
                            .await?;
                        if count >= most {
                            return Ok(Err(TooManyRelations));
                        }
                        diesel::insert_into(relations::table)
                            .values((
                                relations::peer.eq(&digest),
                                relations::other.eq(&other_digest),
                                relations::kind.eq(relation.as_str()),
                                relations::name.eq(&sealed),
                                relations::created_at.eq(now),
                            ))
                            .on_conflict((relations::peer, relations::other))
                            .do_update()
                            .set((relations::kind.eq(relation.as_str()), relations::name.eq(&sealed)))
                            .execute(connection)
                            .await?;
                        touch(connection, &digest, now).await?;
                        Ok(Ok(()))
                    })
                    .await
            })
            .await
    }

    /// The other is nothing of the kind to a peer any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn unrelate(&self, name: &Name, other: &Name, relation: Relation) -> Result<(), StoreFault> {
        let (own, other) = (self.digests(name), self.digests(other));
        let (digest, now) = (self.digest(name)?, self.clock.now());
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, StoreFault, _>(async |connection| {
                        remove(connection, &own, &other, Some(relation)).await?;
                        touch(connection, &digest, now).await
                    })
                    .await
            })
            .await
    }
}

/// Notes that a peer has changed what it has chosen.
async fn touch(
    connection: &mut AsyncPgConnection,
    digest: &[u8],
    now: DateTime<Utc>,
) -> Result<(), StoreFault> {
    diesel::insert_into(peers::table)
        .values((peers::peer.eq(digest), peers::changed_at.eq(now)))
        .on_conflict(peers::peer)
        .do_update()
        .set(peers::changed_at.eq(now))
        .execute(connection)
        .await?;
    Ok(())
}

async fn remove(
    connection: &mut AsyncPgConnection,
    own: &[Vec<u8>],
    other: &[Vec<u8>],
    relation: Option<Relation>,
) -> Result<(), StoreFault> {
    let kinds: Vec<_> = match relation {
        Some(relation) => vec![relation.as_str()],
        None => vec![Relation::Contact.as_str(), Relation::Blocked.as_str()],
    };
    diesel::delete(
        relations::table
            .filter(relations::peer.eq_any(own))
            .filter(relations::other.eq_any(other))
            .filter(relations::kind.eq_any(kinds)),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn visibility(
    connection: &mut AsyncPgConnection,
    digests: &[Vec<u8>],
) -> Result<Option<Visibility>, StoreFault> {
    let text: Option<Option<String>> = peers::table
        .filter(peers::peer.eq_any(digests))
        .filter(peers::visibility.is_not_null())
        .select(peers::visibility)
        .first(connection)
        .await
        .optional()?;
    Ok(text.flatten().as_deref().and_then(Visibility::parse))
}
