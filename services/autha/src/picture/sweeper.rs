//! The sweeper actor: removes pictures that no row names, once they are old enough that no request is still about to name them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_actors::{
    clock::Clock,
    objects::{Listed, ObjectError, Objects},
    store::{Pool, StoreError},
    supervise::{Pulse, Shutdown},
};
use tracing::info;
use uuid::Uuid;

use super::PREFIX;
use crate::schema::{accounts, uploads};

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

/// Sweeps.
pub struct Sweeper {
    /// Autha's connections.
    pub pool: Pool,
    /// The bucket.
    pub objects: Objects,
    /// The time.
    pub clock: Clock,
    /// How old an unnamed object must be.
    pub after: Duration,
    /// How often to look.
    pub every: Duration,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Sweeper {
    /// Sweeps until shutdown, first after one period.
    ///
    /// # Errors
    /// When database or bucket are away: the supervisor then builds a new sweeper.
    pub async fn run(mut self) -> Result<(), SweepError> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.every) => {
                    let held = self.pulse.take();
                    let removed = self.sweep().await?;
                    held.done();
                    if removed > 0 {
                        info!(removed, "swept objects that no row names");
                    }
                }
                () = self.shutdown.requested() => return Ok(()),
            }
        }
    }

    async fn sweep(&self) -> Result<usize, SweepError> {
        let mut from = None;
        let mut removed = 0;
        loop {
            let page = self.objects.list(PREFIX, from).await?;
            let after = chrono::Duration::from_std(self.after).unwrap_or(chrono::Duration::MAX);
            let old: Vec<Listed> = page
                .objects
                .into_iter()
                .filter(|object| object.modified + after < self.clock.now())
                .collect();
            let ids: Vec<Uuid> = old.iter().filter_map(|object| upload_of(&object.key)).collect();
            let named = {
                let mut connection = self.pool.get().await?;
                named(&mut connection, &ids).await?
            };
            let doomed: Vec<String> =
                old.into_iter().map(|object| object.key).filter(|key| !is_named(key, &named)).collect();
            if !doomed.is_empty() {
                self.objects.delete(&doomed).await?;
                removed += doomed.len();
            }
            self.pulse.beat();
            from = page.next;
            if from.is_none() {
                return Ok(removed);
            }
        }
    }
}

/// `avatars/{account}/{upload}/{file}`
fn upload_of(key: &str) -> Option<Uuid> {
    key.split('/').nth(2)?.parse().ok()
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
    upload_of(key).and_then(|id| named.get(&id)).is_some_and(|pending| *pending || !is_original)
}

#[cfg(test)]
mod tests {
    use super::*;

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
