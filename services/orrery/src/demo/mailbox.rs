//! Where `orrery demo` looks for its welcome mail: in the folder of captured mails, or in the inbox of what maily has handed over.

use std::{
    collections::HashSet,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context;
use orrery_maily::config::TransportKind;
use orrery_schemas::trace::TraceParent;
use orrery_store::{Pool, follow::Follow};
use tokio::runtime::Handle;

use super::until;
use crate::config::Config;

/// Where the welcome mail is looked for.
pub enum Mailbox {
    /// Captured mails are files. Those that were read already are not read again.
    Folder { path: PathBuf, read: HashSet<PathBuf> },
    /// The mailbox is not ours to look into; that the server took the mail is written in the inbox.
    Inbox { pool: Pool, follow: Follow },
}

impl Mailbox {
    /// Opened before anything is sent, so that later looks need to read only what is new.
    pub async fn open(config: &Config, trace: &TraceParent) -> anyhow::Result<Self> {
        let maily: orrery_maily::config::Config = config.source.section("maily")?;
        match maily.transport {
            TransportKind::Capture => {
                let path = maily.capture_dir;
                let read = mails(&path)?.into_iter().collect();
                Ok(Self::Folder { path, read })
            }
            TransportKind::Smtp => {
                let pool = Pool::admin(&config.shared.database, 1, Handle::current())?;
                let queue = orrery_schemas::email::QUEUE;
                let follow = Follow::begin(&mut *pool.get().await?, queue, trace.trace_id()).await?;
                Ok(Self::Inbox { pool, follow })
            }
        }
    }

    /// Waits for the mail to that address, and says where it went.
    pub async fn wait_for(self, email: &str) -> anyhow::Result<String> {
        match self {
            Self::Folder { path, mut read } => {
                until("no mail was captured", async || is_captured(&path, &mut read, email)).await?;
                Ok(format!("captured in {}", path.display()))
            }
            Self::Inbox { pool, follow } => {
                until("no mail was handed over", async || {
                    Ok(follow.is_done(&mut *pool.get().await?).await?)
                })
                .await?;
                Ok("taken by the SMTP server".to_owned())
            }
        }
    }
}

/// The captured mails; none where nobody has captured any yet.
fn mails(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut mails = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            mails.push(path);
        }
    }
    Ok(mails)
}

/// Whether a mail that was not read before is to that address.
fn is_captured(folder: &Path, read: &mut HashSet<PathBuf>, email: &str) -> anyhow::Result<bool> {
    for path in mails(folder)? {
        if read.contains(&path) {
            continue;
        }
        if String::from_utf8_lossy(&std::fs::read(&path)?).contains(email) {
            return Ok(true);
        }
        read.insert(path);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("mail");
        assert_eq!(mails(&missing).unwrap(), Vec::<PathBuf>::new());
        let write =
            |name: &str, to: &str| std::fs::write(folder.path().join(name), format!("To: {to}\r\n")).unwrap();
        let mut read = HashSet::new();
        write("1.eml", "ada@orrery.example");
        write("2.part", "bob@orrery.example");
        assert!(!is_captured(folder.path(), &mut read, "bob@orrery.example").unwrap());
        // What was read is not looked at again, even if it is another by now.
        write("1.eml", "bob@orrery.example");
        assert!(!is_captured(folder.path(), &mut read, "bob@orrery.example").unwrap());
        write("3.eml", "bob@orrery.example");
        assert!(is_captured(folder.path(), &mut read, "bob@orrery.example").unwrap());
    }
}
