//! The purger: removes accounts whose grace has ended, then what lies of them in the bucket. Each step is written down before the next, so
//! that it goes on where a crash left it.

use std::time::Duration;

use orrery_objects::{ObjectError, Objects};
use orrery_supervise::{Actor, ActorError, Handle, Life, Progress, Tick};
use tracing::{info, warn};
use uuid::Uuid;

use crate::account::{
    change::{Tools, perform},
    deletion::{self, PurgeAccount},
    error::ChangeError,
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(20);
/// Accounts of one look.
const BATCH: i64 = 100;

/// Removes accounts.
#[derive(Clone)]
pub struct Purger {
    /// What changes work with.
    pub tools: Tools,
    /// The bucket.
    pub objects: Objects,
    /// What it shows of its work.
    pub progress: Progress,
}

/// A purge broke off; it goes on after a restart.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The transaction failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The bucket is away.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl From<orrery_store::StoreError> for PurgeError {
    fn from(error: orrery_store::StoreError) -> Self {
        Self::Change(error.into())
    }
}

impl Actor for Purger {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(EVERY, EVERY);
        Ok(())
    }
}

impl Handle<Tick> for Purger {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let purger = self.clone();
        async move {
            purger.purge().await?;
            Ok(purger.empty().await?)
        }
    }
}

impl Purger {
    async fn purge(&self) -> Result<(), PurgeError> {
        let now = self.tools.clock.now();
        let due = {
            let mut connection = self.tools.pool.get().await?;
            deletion::due(&mut connection, now, BATCH).await?
        };
        let mut removed = 0_usize;
        for account in due {
            self.progress.advance();
            match perform(self.tools.clone(), PurgeAccount { account }, self.tools.random.trace()).await {
                Ok(gone) => removed += usize::from(gone),
                Err(ChangeError::Store(error)) => return Err(ChangeError::Store(error).into()),
                // One account never holds up the next.
                Err(error) => warn!(%error, "an account could not be removed"),
            }
        }
        if removed > 0 {
            info!(removed, "accounts were removed after their grace");
        }
        Ok(())
    }

    async fn empty(&self) -> Result<(), PurgeError> {
        let left = {
            let mut connection = self.tools.pool.get().await?;
            deletion::with_objects(&mut connection, BATCH).await?
        };
        for (account, folders) in left {
            match self.empty_folders(&folders).await {
                Ok(()) => self.settle(account).await?,
                // One account never holds up the next; what the store kept is tried again.
                Err(error @ ObjectError::Partly(_)) => {
                    warn!(%error, "objects of a deleted account are still there");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn empty_folders(&self, folders: &[String]) -> Result<(), ObjectError> {
        for folder in folders {
            self.empty_folder(folder).await?;
        }
        Ok(())
    }

    async fn empty_folder(&self, folder: &str) -> Result<(), ObjectError> {
        let mut from = None;
        loop {
            self.progress.advance();
            let page = self.objects.list(folder, from).await?;
            let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
            if !keys.is_empty() {
                self.objects.delete(&keys).await?;
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    async fn settle(&self, account: Uuid) -> Result<(), PurgeError> {
        let mut connection = self.tools.pool.get().await?;
        deletion::emptied(&mut connection, account).await?;
        Ok(())
    }
}
