//! Mails as files, for development and tests: one `.eml` each, named by its Message-ID.

use std::{
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use lettre::message::Mailbox;
use tokio::fs;

use super::{SendError, Stage, message::Packed};

/// Tells the temporary files of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory that takes mails. A file in it that ends in `.eml` is whole; the same mail sent twice is one file.
#[derive(Debug)]
pub struct Capture {
    from: Mailbox,
    dir: PathBuf,
}

impl Capture {
    pub(super) fn new(from: Mailbox, dir: PathBuf) -> Self {
        Self { from, dir }
    }

    pub(super) fn from(&self) -> &Mailbox {
        &self.from
    }

    pub(super) async fn send(&self, mail: &Packed) -> Result<(), SendError> {
        self.write(&self.path(mail), &mail.bytes).await.map_err(unwritable)
    }

    /// Where a mail lies.
    pub(super) fn path(&self, mail: &Packed) -> PathBuf {
        self.dir.join(format!("{}.eml", file_stem(&mail.message_id)))
    }

    pub(super) async fn probe(&self) -> Result<(), SendError> {
        let temporary = self.temporary();
        let tried = async {
            fs::create_dir_all(&self.dir).await?;
            fs::write(&temporary, b"").await?;
            fs::remove_file(&temporary).await
        };
        tried.await.map_err(unwritable)
    }

    /// Writes beside and renames, so that whoever reads the directory sees the file whole or not at all.
    async fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Made each time: a directory swept away while we run is no outage.
        fs::create_dir_all(&self.dir).await?;
        let temporary = self.temporary();
        let written = async {
            fs::write(&temporary, bytes).await?;
            fs::rename(&temporary, path).await
        };
        let written = written.await;
        if written.is_err() {
            // The first error is the one to report; a file left behind has a name that nobody reads.
            drop(fs::remove_file(&temporary).await);
        }
        written
    }

    fn temporary(&self) -> PathBuf {
        self.dir.join(format!(".{}-{}.tmp", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The Message-ID as the name of a file: what is no letter, digit, dot, dash or underscore becomes `_`, except for
/// `=` and `@`, which our ids contain.
fn file_stem(message_id: &str) -> String {
    let bare = message_id.trim_start_matches('<').trim_end_matches('>');
    let keep = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=' | '@');
    let stem: String = bare.chars().map(|c| if keep(c) { c } else { '_' }).take(240).collect();
    // No hidden file, and no `..`.
    match stem.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => stem,
    }
}

fn unwritable(error: io::Error) -> SendError {
    SendError::Unreachable { stage: Stage::Capture, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        config::Config,
        transport::{Doubt, OutgoingMail, Transport, samples},
    };

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn transport(dir: &Path) -> Result<Transport, crate::transport::SetupError> {
        Transport::new(&Config { capture_dir: dir.to_owned(), ..Config::default() })
    }

    fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    #[tokio::test]
    async fn the_same_mail_twice_is_one_file() -> TestResult {
        let dir = tempfile::tempdir()?;
        let into = dir.path().join("made/on/demand");
        let transport = transport(&into)?;
        let mail = samples::mail("ada", "en");
        transport.send(&mail, &Doubt::ignored()).await?;
        transport.send(&mail, &Doubt::ignored()).await?;
        transport
            .send(&OutgoingMail { message_id: "<0199-b@orrery.example>".into(), ..mail }, &Doubt::ignored())
            .await?;
        let expected = ["0199-a@orrery.example.eml", "0199-b@orrery.example.eml"];
        assert_eq!(names(&into)?, expected.map(str::to_owned).into());
        Ok(())
    }

    #[tokio::test]
    async fn a_reader_never_sees_half_a_mail() -> TestResult {
        let dir = tempfile::tempdir()?;
        let transport = transport(dir.path())?;
        let mail = samples::mail("ada", "en");
        transport.send(&mail, &Doubt::ignored()).await?;
        let doubt = Doubt::ignored();
        let whole = |bytes: &[u8]| bytes.ends_with(b"--\r\n");
        let path = dir.path().join("0199-a@orrery.example.eml");
        let writers = async {
            for _ in 0..50 {
                let (one, other) = tokio::join!(transport.send(&mail, &doubt), transport.send(&mail, &doubt));
                one.and(other)?;
            }
            Ok::<_, SendError>(())
        };
        let reader = async {
            loop {
                assert!(whole(&fs::read(&path).await?));
                tokio::task::yield_now().await;
            }
            #[expect(unreachable_code, reason = "gives the block its type")]
            Ok::<(), io::Error>(())
        };
        tokio::select! {
            written = writers => written?,
            read = reader => read?,
        }
        assert_eq!(names(dir.path())?.len(), 1, "temporary files are gone");
        Ok(())
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_is_unreachable() -> TestResult {
        let file = tempfile::NamedTempFile::new()?;
        let transport = transport(&file.path().join("below"))?;
        for result in
            [transport.probe().await, transport.send(&samples::mail("ada", "en"), &Doubt::ignored()).await]
        {
            assert!(
                matches!(result, Err(SendError::Unreachable { stage: Stage::Capture, .. })),
                "{result:?}"
            );
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_probe_leaves_nothing_behind() -> TestResult {
        let dir = tempfile::tempdir()?;
        transport(dir.path())?.probe().await?;
        assert_eq!(names(dir.path())?.len(), 0);
        Ok(())
    }

    #[test]
    fn a_hostile_message_id_stays_in_the_directory() {
        assert_eq!(file_stem("<../../etc/x@y>"), "_._.._etc_x@y");
        assert_eq!(file_stem("<..>"), "_.");
        assert_eq!(file_stem("<a/b\\c\0d>"), "a_b_c_d");
    }
}
