//! When the settings are to be read again: on SIGHUP, and when their file changes.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// The reasons to read again.
pub struct Changed {
    file: Option<PathBuf>,
    written: Option<SystemTime>,
    hangup: Signal,
}

impl Changed {
    /// From now on SIGHUP ends the process no more.
    ///
    /// # Errors
    /// When signals cannot be heard.
    pub fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        let written = file.as_deref().and_then(written);
        Ok(Self { file, written, hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for the next.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    info!("SIGHUP: the settings are read again");
                    return;
                }
                () = tokio::time::sleep(EVERY) => {
                    let now = self.file.as_deref().and_then(written);
                    if now != self.written {
                        self.written = now;
                        info!("the file of the settings changed: it is read again");
                        return;
                    }
                }
            }
        }
    }
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
