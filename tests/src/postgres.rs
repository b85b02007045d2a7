//! A PostgreSQL server of a test's own, from Debian's programs, which can be killed and started again. What only needs a
//! database has one on the shared server (`database`).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Url;
use tempfile::TempDir;

use crate::ports::Port;
use crate::process::{Process, tail};
use crate::teardown;

/// Where Debian keeps each version's programs.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The longest that a start may take, the recovery after a kill included.
const READY: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// A server; dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Mutex<Option<Process>>,
    programs: PathBuf,
    port: Port,
    folder: TempDir,
    /// The locale of its messages.
    messages: String,
}

impl Postgres {
    /// Makes a cluster and starts its server. A commit is in the kernel's hands when it is answered, so that `fsync=off`
    /// loses nothing to a kill.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_in(folder()?, "C.UTF-8").await
    }

    /// The same, with messages in another language (`fr_FR`), whose locale is made for this server alone.
    ///
    /// # Errors
    /// As `start`, or Debian's package `locales` is missing.
    pub async fn speaking(language: &str) -> Result<Self> {
        let folder = folder()?;
        let locale = format!("{language}.utf8");
        let compiled = std::process::Command::new("localedef")
            .args(["-i", language, "-f", "UTF-8"])
            .arg(folder.path().join(&locale))
            .output()
            .context("localedef: apt-get install locales")?;
        let told = String::from_utf8_lossy(&compiled.stderr);
        ensure!(compiled.status.success(), "no {locale} (apt-get install locales): {told}");
        Self::start_in(folder, &locale).await
    }

    async fn start_in(folder: TempDir, messages: &str) -> Result<Self> {
        let (programs, port) = (programs()?, Port::reserve()?);
        let server =
            Self { process: Mutex::default(), programs, port, folder, messages: messages.to_owned() };
        if is_root()? {
            let given =
                std::process::Command::new("chown").arg("postgres:").arg(server.folder.path()).status()?;
            ensure!(given.success(), "the user postgres is missing: it comes with Debian's package");
        }
        let (data, log) = (server.data()?, server.log());
        let arguments =
            ["-D", &data, "-U", "orrery", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
        let made = server.run("initdb", &arguments)?.wait(READY).await?;
        ensure!(made.success(), "initdb ended with {made}\n{}", tail(&log, 40));
        server.resume().await?;
        Ok(server)
    }

    /// The URL of its superuser's own database.
    ///
    /// # Errors
    /// None is known.
    pub fn url(&self) -> Result<Url> {
        Ok(Url::parse(&format!("postgres://orrery@{}/postgres", self.port.address()))?)
    }

    /// SIGKILL to the server and everything that it has started: no shutdown, no checkpoint.
    pub fn kill(&self) {
        let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // Each backend is in a session of its own, so that there is no group to kill.
        let backends = children(process.id());
        process.kill();
        for backend in backends {
            // Most have noticed by themselves.
            kill(backend, Signal::SIGKILL).ok();
        }
    }

    /// Starts the server at its address, again if need be, and waits until it takes connections.
    ///
    /// # Errors
    /// It does not within 60 s; the error has the end of its log.
    pub async fn resume(&self) -> Result<()> {
        self.kill();
        let data = self.data()?;
        let port = self.port.address().port().to_string();
        let messages = format!("lc_messages={}", self.messages);
        let arguments = [
            "-D",
            &data,
            "-p",
            &port,
            "-c",
            &messages,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=200",
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
        ];
        let url = self.url()?;
        let mut process = self.run("postgres", &arguments)?;
        // No `eventually`: a future with an asynchronous closure cannot be spawned, and tests spawn this one.
        let end = Instant::now() + READY;
        while AsyncPgConnection::establish(url.as_str()).await.is_err() {
            ensure!(Instant::now() < end, "PostgreSQL takes no connections:\n{}", tail(&self.log(), 40));
            if process.ended().is_some() {
                // A backend of the killed server still holds its shared memory for a moment.
                process = self.run("postgres", &arguments)?;
            }
            tokio::time::sleep(POLL).await;
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Runs one of its programs; as root by the user `postgres`, since they refuse to be root.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        let program = self.programs.join(program);
        let folder = self.folder.path();
        // glibc has C.UTF-8 itself, and looks for every other locale where it is told to.
        let locales = folder.to_str().context("a folder that is no UTF-8")?;
        let settings =
            [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8"), ("LC_CTYPE", "C.UTF-8"), ("LOCPATH", locales)];
        let settings: BTreeMap<String, String> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        if !is_root()? {
            return Process::spawn(&program, arguments, &settings, folder, &self.log());
        }
        // A change of the user forgets the signal of the parent's death, so that it is asked for once more.
        let user = ["--reuid", "postgres", "--regid", "postgres", "--init-groups"];
        let launch = ["setpriv", "--pdeathsig", "KILL", program.to_str().context("a path that is no UTF-8")?];
        let all: Vec<&str> = [&user[..], &launch, arguments].concat();
        Process::spawn(Path::new("/usr/bin/setpriv"), &all, &settings, folder, &self.log())
    }

    fn data(&self) -> Result<String> {
        self.folder.path().join("cluster").to_str().map(str::to_owned).context("a folder that is no UTF-8")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut process) = process {
            // Ended by SIGKILL it would leave its shared memory to the machine.
            teardown::finish("PostgreSQL", async move {
                process.signal(Signal::SIGQUIT)?;
                while process.ended().is_none() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(())
            });
        }
    }
}

fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("orrery-postgres-").tempdir()?)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// The programs of the newest version.
fn programs() -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(VERSIONS).with_context(|| format!("no {VERSIONS}: apt-get install postgresql"))?;
    let newest = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(VERSIONS).join(version.to_string()).join("bin/postgres").exists())
        .max();
    let version = newest.with_context(|| format!("no server in {VERSIONS}: apt-get install postgresql"))?;
    Ok(Path::new(VERSIONS).join(version.to_string()).join("bin"))
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<Pid> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|id| id.parse().ok().map(Pid::from_raw)).collect()
}
