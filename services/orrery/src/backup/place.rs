//! Where backups lie: a folder or a bucket. A file that is not whole has no name there yet.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use orrery_objects::{Objects, Upload};
use tokio::{
    fs::{self, File},
    io::{AsyncRead, AsyncWriteExt},
};

use super::config::Backup;

const PREFIX: &str = "orrery-";
const SUFFIX: &str = ".backup";
const MEDIA_TYPE: &str = "application/octet-stream";

/// The name of a backup, which sorts by its time.
pub fn name(at: DateTime<Utc>) -> String {
    format!("{PREFIX}{}{SUFFIX}", at.format("%Y%m%dt%H%M%Sz"))
}

/// A folder or a bucket.
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// Any S3.
    Bucket(Objects),
}

/// A backup that is being written.
pub enum Writing {
    /// Into a folder, under another name until it is whole.
    File { file: File, part: PathBuf, whole: PathBuf },
    /// Into a bucket, where it is nothing until it is whole.
    Upload(Upload),
}

impl Place {
    /// By the configuration.
    ///
    /// # Errors
    /// When it says nothing of backups.
    pub fn new(config: &Backup) -> anyhow::Result<Self> {
        match (&config.folder, &config.storage) {
            (Some(folder), _) => Ok(Self::Folder(folder.clone())),
            (None, Some(storage)) => Ok(Self::Bucket(Objects::new(storage).context("backup.storage")?)),
            (None, None) => bail!("backup.folder: is missing; give a folder, or a bucket by backup.storage"),
        }
    }

    /// The backups, oldest first.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub async fn list(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Self::Folder(folder) => {
                let read = fs::read_dir(folder).await;
                let mut entries = read.with_context(|| format!("{} cannot be read", folder.display()))?;
                while let Some(entry) = entries.next_entry().await? {
                    names.extend(entry.file_name().into_string());
                }
            }
            Self::Bucket(objects) => {
                let mut from = None;
                loop {
                    let page = objects.list(PREFIX, from).await?;
                    names.extend(page.objects.into_iter().map(|object| object.key));
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
            }
        }
        names.retain(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        names.sort();
        Ok(names)
    }

    /// Begins one.
    ///
    /// # Errors
    /// When the place takes none.
    pub async fn create(&self, name: &str) -> anyhow::Result<Writing> {
        match self {
            Self::Folder(folder) => {
                fs::create_dir_all(folder).await?;
                let (part, whole) = (folder.join(format!("{name}.part")), folder.join(name));
                let mut options = File::options();
                let file = options.write(true).create_new(true).mode(0o600).open(&part).await?;
                Ok(Writing::File { file, part, whole })
            }
            Self::Bucket(objects) => {
                match objects.create_bucket().await {
                    // Who may write into the bucket need not be allowed to make one; the upload tells.
                    Err(error) if !error.is_outage() => return Err(error.into()),
                    _ => {}
                }
                Ok(Writing::Upload(objects.begin(name, MEDIA_TYPE).await?))
            }
        }
    }

    /// Opens one.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn open(&self, name: &str) -> anyhow::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Ok(match self {
            Self::Folder(folder) => {
                // A name is no path that leads elsewhere; a path of its own is taken.
                let path = if name.contains('/') { Path::new(name).to_owned() } else { folder.join(name) };
                Box::new(File::open(path).await?)
            }
            Self::Bucket(objects) => Box::new(objects.open(name, None).await?.into_reader()),
        })
    }

    /// Removes all but the newest `keep`, and says how many.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn prune(&self, keep: usize) -> anyhow::Result<usize> {
        let mut names = self.list().await?;
        names.truncate(names.len().saturating_sub(keep));
        for name in &names {
            match self {
                Self::Folder(folder) => fs::remove_file(folder.join(name)).await?,
                Self::Bucket(objects) => objects.delete(std::slice::from_ref(name)).await?,
            }
        }
        Ok(names.len())
    }
}

impl Writing {
    /// More of it.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File { file, .. } => Ok(file.write_all(bytes).await?),
            Self::Upload(upload) => Ok(upload.write(bytes).await?),
        }
    }

    /// Ends it: it survives a crash from now on.
    ///
    /// # Errors
    /// When the place does not keep it.
    pub async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File { mut file, part, whole } => {
                file.flush().await?;
                file.sync_all().await?;
                fs::rename(&part, &whole).await?;
                if let Some(folder) = whole.parent() {
                    File::open(folder).await?.sync_all().await?;
                }
                Ok(())
            }
            Self::Upload(upload) => Ok(upload.finish().await?),
        }
    }

    /// Gives it up.
    ///
    /// # Errors
    /// When what there is of it cannot be removed.
    pub async fn abort(self) -> anyhow::Result<()> {
        match self {
            Self::File { part, .. } => Ok(fs::remove_file(part).await?),
            Self::Upload(upload) => Ok(upload.abort().await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_whole_is_not_listed_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("deep"));
        let mut written = Vec::new();
        for day in 1..=4 {
            let at = DateTime::from_timestamp(day * 86_400, 0).unwrap();
            let mut to = place.create(&name(at)).await.unwrap();
            to.write(b"x").await.unwrap();
            assert_eq!(place.list().await.unwrap(), written);
            if day == 4 {
                to.abort().await.unwrap();
            } else {
                to.finish().await.unwrap();
                written.push(name(at));
            }
        }
        assert_eq!(place.prune(2).await.unwrap(), 1);
        assert_eq!(place.list().await.unwrap(), written[1..]);
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 2);
    }
}
