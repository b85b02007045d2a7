//! Reads bounces from a Maildir that the mail server delivers them to, and suppresses the addresses that they are about. What a report
//! says lives in `bounce`.

use std::{io, path::PathBuf, time::Duration};

use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Handle, Life, Shutdown, Tick, clock::Clock};
use tokio::fs;
use tracing::{info, warn};

use crate::{
    bounce::{self, ReturnPath},
    records::{self, Digests},
};

/// How often the folder is looked into.
const INTERVAL: Duration = Duration::from_secs(15);
/// A report is small; what is larger is none.
const SIZE_LIMIT: u64 = 1 << 20;
/// Reports of one look.
const BATCH: usize = 200;

/// Why bounces cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaildirError {
    /// The folder cannot be read.
    #[error("maily.bounces.maildir: {}: {source}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What they say cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks into a Maildir.
#[derive(Clone)]
pub(crate) struct Reader {
    pub folder: PathBuf,
    pub path: ReturnPath,
    pub digests: Digests,
    pub pool: Pool,
    pub clock: Clock,
    pub shutdown: Shutdown,
}

impl Actor for Reader {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.every(Duration::ZERO, INTERVAL);
        Ok(())
    }
}

impl Handle<Tick> for Reader {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let (reader, mut shutdown) = (self.clone(), self.shutdown.clone());
        async move {
            tokio::select! {
                looked = reader.look() => {
                    looked?;
                    Ok(())
                }
                // What is left is read another time.
                () = shutdown.requested() => Ok(()),
            }
        }
    }
}

impl Reader {
    /// Reads what is new once. A report is moved to `cur` after what it says was kept, so a crash in between reads it again, which
    /// changes nothing.
    pub(crate) async fn look(&self) -> Result<usize, MaildirError> {
        let fault = |source| MaildirError::Folder { path: self.folder.clone(), source };
        let (new, cur) = (self.folder.join("new"), self.folder.join("cur"));
        let mut entries = match fs::read_dir(&new).await {
            // Nothing was ever delivered.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(fault)?,
        };
        fs::create_dir_all(&cur).await.map_err(fault)?;
        let mut suppressed = 0;
        let mut seen = 0;
        while let Some(entry) = entries.next_entry().await.map_err(fault)? {
            seen += 1;
            if seen > BATCH {
                break;
            }
            if entry.metadata().await.map_err(fault)?.len() <= SIZE_LIMIT {
                let report = fs::read(entry.path()).await.map_err(fault)?;
                suppressed += self.take_in(&report).await?;
            } else {
                warn!("a mail to the address of bounces is too large to be a report");
            }
            let mut name = entry.file_name();
            name.push(":2,S");
            fs::rename(entry.path(), cur.join(name)).await.map_err(fault)?;
        }
        Ok(suppressed)
    }

    async fn take_in(&self, report: &[u8]) -> Result<usize, MaildirError> {
        let mut count = 0;
        for bounce in bounce::permanent(report, &self.path) {
            let mut connection = self.pool.get().await?;
            let is_new = records::suppress(
                &mut connection,
                &self.digests,
                &bounce.recipient,
                &bounce.status,
                self.clock.now(),
            )
            .await
            .map_err(StoreError::from)?;
            if is_new {
                info!(status = bounce.status, "mail came back: nothing more is sent to its address");
                count += 1;
            }
        }
        Ok(count)
    }
}
