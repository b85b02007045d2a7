//! Accounts from elsewhere and to elsewhere, for `orrery account import` and `orrery account export`.

use std::{io::Read, path::Path, time::Duration};

use tracing::warn;
use uuid::Uuid;

use super::{
    Look,
    commands::{CommandError, Operator},
};
use crate::import::{
    self, Departing, FirebaseParameters, Format, ImportBatch, ImportError, Imported, LeftOut, ReadError,
};

/// Rows of one transaction of an import. A row is a dozen statements, and all of them together have the time of one request: a database that is some
/// milliseconds away must not stop the import at the same rows each time.
const IMPORTED_AT_ONCE: usize = 20;
/// How often the same rows are tried again while the database is away or slow, and the pause before each.
const IMPORT_TRIES: usize = 10;
const IMPORT_PAUSE: Duration = Duration::from_secs(2);

/// SHA-256 of a file, by which its import is known.
fn digest_of(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(digest.finish().as_ref().to_vec());
        }
        digest.update(buffer.get(..read).unwrap_or_default());
    }
}

impl Operator {
    /// Imports a file, from where a former run of the same file stopped; `told` hears of each batch.
    ///
    /// # Errors
    /// When the file cannot be read, another run is ahead, or the database refuses. What was imported stays.
    pub async fn import(
        &self,
        format: Format,
        path: &Path,
        firebase: FirebaseParameters,
        mut told: impl FnMut(&Imported),
    ) -> Result<Imported, CommandError> {
        let digest = digest_of(path)?;
        let entry =
            self.entry("account.import", None, Some(format!("{}, {}", format.name(), hex::encode(&digest))));
        self.perform(Look { entry }).await?;
        let mut tries = 0;
        let done = loop {
            let mut done = {
                let mut connection = self.tools.pool.get().await?;
                let id = self.tools.random.uuid_v7(&self.tools.clock);
                import::begin(&mut connection, id, format, &digest, self.tools.clock.now()).await?
            };
            let before = done.position;
            let ended = self.import_from(&mut done, format, path, &firebase, &mut told).await;
            tries = if done.position > before { 0 } else { tries };
            match ended {
                // It may have been written or not: how far it came is read again.
                Err(CommandError::Import(ImportError::Store(error)))
                    if error.is_outage() && tries < IMPORT_TRIES =>
                {
                    tries += 1;
                    warn!(%error, "the import waits for the database");
                    tokio::time::sleep(IMPORT_PAUSE).await;
                }
                ended => break ended.map(|()| done)?,
            }
        };
        let mut connection = self.tools.pool.get().await?;
        import::finish(&mut connection, done.id, self.tools.clock.now()).await?;
        Ok(done)
    }

    /// Imports the rows that are not done with.
    async fn import_from(
        &self,
        done: &mut Imported,
        format: Format,
        path: &Path,
        firebase: &FirebaseParameters,
        told: &mut impl FnMut(&Imported),
    ) -> Result<(), CommandError> {
        let mut rows = import::rows(format, path)?.skip(usize::try_from(done.position).unwrap_or(usize::MAX));
        loop {
            let batch: Vec<_> = rows.by_ref().take(IMPORTED_AT_ONCE).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let batch = ImportBatch {
                import: done.id,
                position: done.position,
                rows: batch,
                format,
                firebase: firebase.clone(),
            };
            *done = self.perform(batch).await?;
            told(done);
        }
    }

    /// What an import left out, and why.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn left_out(&self, import: Uuid, after: i64) -> Result<Vec<LeftOut>, CommandError> {
        let mut connection = self.tools.pool.get().await?;
        Ok(import::left_out(&mut connection, import, after, 1000).await?)
    }

    /// The next accounts in the form that `import` reads, and the last one's id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn export(&self, after: Uuid) -> Result<(Vec<Departing>, Option<Uuid>), CommandError> {
        if after.is_nil() {
            let entry = self.entry("account.export", None, None);
            self.perform(Look { entry }).await?;
        }
        let mut connection = self.tools.pool.get().await?;
        Ok(import::departing(&mut connection, &self.tools.vault, after, 500).await?)
    }
}
