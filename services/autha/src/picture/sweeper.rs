//! The sweeper actor: removes pictures and archives that no row names, once they are old enough that nobody is still about to name them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_objects::{Listed, ObjectError, Objects};
use orrery_store::{Pool, StoreError, copy};
use orrery_supervise::{Actor, ActorError, Handle, Life, Progress, Shutdown, Tick, clock::Clock};
use tracing::{info, warn};
use uuid::Uuid;

use super::{PREFIX, incoming};
use crate::{
    export,
    schema::{accounts, uploads},
    stored_time,
};

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

/// What is swept.
#[derive(Clone, Copy)]
enum Kind {
    Picture,
    Archive,
    /// What was put straight into the bucket and not taken in.
    Incoming,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Picture => PREFIX,
            Self::Archive => export::PREFIX,
            Self::Incoming => incoming::PREFIX,
        }
    }
}

/// Sweeps.
#[derive(Clone)]
pub struct Sweeper {
    /// Autha's connections.
    pub pool: Pool,
    /// The bucket.
    pub objects: Objects,
    /// The time.
    pub clock: Clock,
    /// How old an unnamed object must be.
    pub after: Duration,
    /// How old one that waits to be taken in must be.
    pub incoming_after: chrono::Duration,
    /// How often to look.
    pub every: Duration,
    /// What it shows of its work.
    pub progress: Progress,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Actor for Sweeper {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(self.every, self.every);
        Ok(())
    }
}

impl Handle<Tick> for Sweeper {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let sweeper = self.clone();
        async move {
            let removed = sweeper.sweep().await?;
            if removed > 0 {
                info!(removed, "swept objects that no row names");
            }
            Ok(())
        }
    }
}

impl Sweeper {
    /// Whether it is so old that no request is still about to name it.
    fn is_old(&self, kind: Kind, object: &Listed, now: DateTime<Utc>) -> bool {
        let after = match kind {
            Kind::Picture | Kind::Archive => {
                chrono::Duration::from_std(self.after).unwrap_or(chrono::Duration::MAX)
            }
            Kind::Incoming => self.incoming_after,
        };
        written_at(object, now).is_some_and(|written| now - written > after)
    }

    /// Whether a backup copies the bucket.
    async fn is_copied(&self) -> Result<bool, StoreError> {
        let mut connection = self.pool.get().await?;
        copy::is_under_way(&mut connection).await
    }

    /// Looks at each object of the bucket; what is left at a shutdown is looked at another time.
    async fn sweep(&self) -> Result<usize, SweepError> {
        let mut removed = 0;
        for kind in [Kind::Picture, Kind::Archive, Kind::Incoming] {
            removed += self.sweep_all(kind).await?;
        }
        Ok(removed)
    }

    async fn sweep_all(&self, kind: Kind) -> Result<usize, SweepError> {
        let mut from = None;
        let mut removed = 0;
        loop {
            let page = self.objects.list(kind.prefix(), from).await?;
            let now = self.clock.now();
            let old: Vec<Listed> =
                page.objects.into_iter().filter(|object| self.is_old(kind, object, now)).collect();
            let ids: Vec<Uuid> = old.iter().filter_map(|object| id_of(&object.key)).collect();
            let named = {
                let mut connection = self.pool.get().await?;
                match kind {
                    Kind::Picture => named(&mut connection, &ids).await?,
                    Kind::Archive => export::named(&mut connection, &ids).await?,
                    Kind::Incoming => HashMap::new(),
                }
            };
            let doomed: Vec<String> =
                old.into_iter().map(|object| object.key).filter(|key| !is_named(key, &named)).collect();
            // A backup that has begun copies what its snapshot names, which may be among them. Asked last: what was unnamed before it began is in no snapshot of its.
            if !doomed.is_empty() && self.is_copied().await? {
                info!("a backup is being made, so nothing is swept");
                return Ok(removed);
            }
            if !doomed.is_empty() {
                removed += match self.objects.delete(&doomed).await {
                    Ok(()) => doomed.len(),
                    // What the store kept is looked at again by the next sweep; the rest of the bucket does not wait for it.
                    Err(ObjectError::Partly(kept)) => {
                        let code = kept.iter().map(|(_, code)| code.as_str()).next();
                        warn!(kept = kept.len(), code, "objects that no row names are still there");
                        doomed.len().saturating_sub(kept.len())
                    }
                    Err(error) => return Err(error.into()),
                };
            }
            self.progress.advance();
            from = page.next;
            if from.is_none() || self.shutdown.is_requested() {
                return Ok(removed);
            }
        }
    }
}

/// When an object was written: by the store's clock, or where that was ahead, when its upload or export was begun, as its id tells by ours.
fn written_at(object: &Listed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if stored_time::is_past(object.modified, now) {
        return Some(object.modified);
    }
    let (seconds, nanos) = id_of(&object.key)?.get_timestamp()?.to_unix();
    let begun = DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    stored_time::is_past(begun, now).then_some(begun)
}

/// The upload of `avatars/{account}/{upload}/{file}`, the export of `exports/{account}/{export}.zip`, and so for what is incoming.
fn id_of(key: &str) -> Option<Uuid> {
    key.split('/').nth(2)?.split('.').next()?.parse().ok()
}

/// The uploads among `ids` that an account names, each with whether it is still pending.
async fn named(connection: &mut AsyncPgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, bool>, StoreError> {
    let rows: Vec<(Uuid, Uuid, String)> = uploads::table
        .filter(uploads::id.eq_any(ids))
        .select((uploads::id, uploads::account, uploads::state))
        .load(connection)
        .await
        .map_err(StoreError::Query)?;
    // No join: kept prepared it could be walked along all accounts (decision 23).
    let owners: HashSet<Uuid> = rows.iter().map(|(_, account, _)| *account).collect();
    let shown: Vec<(Option<Uuid>, Option<Uuid>)> = accounts::table
        .filter(accounts::id.eq_any(owners))
        .select((accounts::avatar_upload, accounts::icon_upload))
        .load(connection)
        .await
        .map_err(StoreError::Query)?;
    let shown: HashSet<Uuid> =
        shown.into_iter().flat_map(|(avatar, icon)| avatar.into_iter().chain(icon)).collect();
    Ok(rows
        .into_iter()
        .filter(|(id, ..)| shown.contains(id))
        .map(|(id, _, state)| (id, state == "pending"))
        .collect())
}

/// Variants are named while their upload is shown or wanted; an original only while it waits to be optimised, for it may tell
/// where and when it was taken.
fn is_named(key: &str, named: &HashMap<Uuid, bool>) -> bool {
    let is_original = key.rsplit('/').next().is_some_and(|file| file.starts_with("original."));
    id_of(key).and_then(|id| named.get(&id)).is_some_and(|pending| *pending || !is_original)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_a_store_whose_clock_was_ahead_is_as_old_as_its_upload() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let id = |seconds: i64| {
            let at = u64::try_from(now.timestamp() + seconds).unwrap();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, at, 0))
        };
        let object = |modified: i64, upload: Uuid| Listed {
            key: format!("avatars/{}/{upload}/original.jpg", Uuid::from_u128(9)),
            modified: now + chrono::Duration::seconds(modified),
        };
        let age = |object| written_at(&object, now).map(|written| (now - written).num_seconds());
        assert_eq!(age(object(-5, id(-90_000))), Some(5));
        assert_eq!(age(object(86_400, id(-90_000))), Some(90_000));
        assert_eq!(age(object(86_400, id(86_400))), None);
        assert_eq!(age(object(86_400, Uuid::from_u128(1))), None);
    }

    #[test]
    fn an_original_is_named_only_while_it_waits() {
        let (done, pending) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let named = HashMap::from([(done, false), (pending, true)]);
        let key = |id: Uuid, file: &str| format!("avatars/{}/{id}/{file}", Uuid::from_u128(9));
        assert!(is_named(&key(pending, "original.jpg"), &named));
        assert!(!is_named(&key(done, "original.jpg"), &named));
        assert!(is_named(&key(done, "abc-512.webp"), &named));
        assert!(!is_named(&key(Uuid::from_u128(3), "abc-512.webp"), &named));
        assert!(!is_named("avatars/stray", &named));
    }
}
