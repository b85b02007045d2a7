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
    /// Signals that end a process which does not hear them, and mean nothing here.
    others: [(&'static str, Signal); 2],
}

impl Changed {
    /// From now on SIGHUP, SIGUSR1 and SIGUSR2 end the process no more.
    ///
    /// # Errors
    /// When signals cannot be heard.
    pub fn new(file: Option<PathBuf>) -> std::io::Result<Self> {
        let written = file.as_deref().and_then(written);
        let hangup = signal(SignalKind::hangup())?;
        let others = [
            ("SIGUSR1", signal(SignalKind::user_defined1())?),
            ("SIGUSR2", signal(SignalKind::user_defined2())?),
        ];
        Ok(Self { file, written, hangup, others })
    }

    /// Waits for the next.
    pub async fn next(&mut self) {
        let [(first, usr1), (second, usr2)] = &mut self.others;
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    info!("SIGHUP: the settings are read again");
                    return;
                }
                _ = usr1.recv() => info!("{first} means nothing here: SIGHUP reads the settings again"),
                _ = usr2.recv() => info!("{second} means nothing here: SIGHUP reads the settings again"),
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
