//! One `orrery serve` process of a world. What it is told is put together in `world::builder`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::client::{Answer, Client};
use crate::deadline::eventually;
use crate::pages::{self, Page};
use crate::ports::Port;
use crate::process::{Process, read_log, tail};

/// The longest that a process may take from start to ready.
const READY: Duration = Duration::from_secs(30);
/// `internal.grace`, unless a test sets another.
const GRACE: Duration = Duration::from_secs(10);
/// How much longer than its grace a process may take to end on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// What all processes of a world share; a service keeps it, so that it can start again by itself.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) gateway: Port,
    pub(crate) autha: Port,
    pub(crate) discovery: Port,
    /// The logs of all processes ever started.
    pub(crate) logs: Mutex<Vec<PathBuf>>,
    pub(crate) started: AtomicUsize,
    /// What processes showed to operators when they ended.
    pub(crate) pages: Mutex<Vec<Page>>,
    /// What was wrong with how processes ended.
    pub(crate) faults: Mutex<Vec<String>>,
    /// Whether the world is gone, and with it all that a process would need for an orderly end.
    pub(crate) is_closed: AtomicBool,
}

impl Site {
    /// A log file of its own for a process.
    pub(crate) fn new_log(&self, name: &str) -> PathBuf {
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let log = self.folder.join(format!("{number}-{name}.log"));
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(log.clone());
        log
    }
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident memory, shared pages counted in full (`Rss` in smaps_rollup).
    pub rss_bytes: u64,
    /// Resident memory, shared pages counted in parts (`Pss` in smaps_rollup).
    pub pss_bytes: u64,
    /// Memory of its own, which no file stands behind (`Anonymous` in smaps_rollup): heap and stacks.
    pub anonymous_bytes: u64,
    /// The highest resident memory since the start or [`Service::reset_peak`] (`VmHWM` in status).
    pub peak_rss_bytes: u64,
    /// What it may come to use without asking the system again, touched or not.
    pub data_bytes: u64,
}

/// A process that serves some of the services. Dropping it ends it: one that was ready gets SIGTERM and has to end within its grace, so
/// that an actor that outlives its supervisor is seen. All its runs write to one log.
#[derive(Debug)]
pub struct Service {
    site: Arc<Site>,
    services: Vec<String>,
    settings: BTreeMap<String, String>,
    internal: Port,
    console: Port,
    log: PathBuf,
    process: Process,
    /// Whether this run was ready once.
    was_ready: bool,
}

impl Service {
    /// Starts a process and does not wait for it.
    pub(crate) fn launch(site: &Arc<Site>, services: &[&str], extra: &[(&str, &str)]) -> Result<Self> {
        let internal = Port::reserve()?;
        let mut settings = site.settings.clone();
        let console = Port::reserve()?;
        settings.insert("ORRERY_INTERNAL__LISTEN".to_owned(), internal.address().to_string());
        settings.insert("ORRERY_CONSOLE__LISTEN".to_owned(), console.address().to_string());
        settings.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let log =
            site.new_log(if services.is_empty() { "all".to_owned() } else { services.join("-") }.as_str());
        let services: Vec<String> = services.iter().map(|service| (*service).to_owned()).collect();
        let process = start(site, &services, &settings, &log)?;
        let site = Arc::clone(site);
        Ok(Self { site, services, settings, internal, console, log, process, was_ready: false })
    }

    /// Waits until the process says on its internal listener that it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready within `deadline`; the error has the end of its log.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let client = Client::new(&self.internal_url())?;
        let process = &mut self.process;
        let ready = eventually(deadline, "the process to be ready", async || {
            if let Some(status) = process.ended() {
                return Some(Err(anyhow!("it ended with {status} before it was ready")));
            }
            let answer = client.get("/health/ready").await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(Ok(()))
        })
        .await;
        ready.and_then(|ended| ended).with_context(|| tail(&self.log, 40))?;
        self.was_ready = true;
        Ok(())
    }

    /// Waits as [`Service::wait_ready`] does, and starts the process again when another took one of its ports.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let mut tries_left = 3;
        loop {
            let ready = self.wait_ready(READY).await;
            let taken = || read_log(&self.log).to_lowercase().contains("address already in use");
            if ready.is_ok() || tries_left == 0 || self.process.ended().is_none() || !taken() {
                return ready;
            }
            tries_left -= 1;
            self.start()?;
        }
    }

    fn start(&mut self) -> Result<()> {
        self.was_ready = false;
        self.process = start(&self.site, &self.services, &self.settings, &self.log)?;
        Ok(())
    }

    /// Keeps what it shows to operators, to be searched when the world ends.
    fn keep_pages(&self) {
        let log = self.log.file_name().unwrap_or_default().to_string_lossy();
        let pages = pages::read(self.internal.address(), &log);
        self.site.pages.lock().unwrap_or_else(PoisonError::into_inner).extend(pages);
    }

    fn grace(&self) -> Duration {
        let seconds = self.settings.get("ORRERY_INTERNAL__GRACE").and_then(|grace| grace.strip_suffix('s'));
        seconds.and_then(|seconds| seconds.parse().ok()).map_or(GRACE, Duration::from_secs)
    }

    /// SIGKILL; when this returns the process is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and nothing more: for what happens before its end.
    ///
    /// # Errors
    /// It had ended before.
    pub fn signal_end(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// A signal, and nothing more.
    ///
    /// # Errors
    /// It had ended before.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// SIGTERM, then waits for its end and gives its status.
    ///
    /// # Errors
    /// It had ended before, or still runs after `deadline`; the error has the end of its log.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if !self.process.is_frozen() {
            self.keep_pages();
        }
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(deadline).await
    }

    /// Starts the process again at the same addresses and waits until it is ready; one that still runs is killed first.
    ///
    /// # Errors
    /// It does not become ready; the error has the end of its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.relaunch()?;
        self.settle().await
    }

    /// The same without waiting: for a start that must fail or wait.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn relaunch(&mut self) -> Result<()> {
        self.process.kill();
        self.start()
    }

    /// Holds the whole process (SIGSTOP), as if its machine hung: connections stay open and nothing answers.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Its exit status, if it has ended by itself or was ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// The process id; that of the last run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The ids of the processes that it has started and that still run.
    ///
    /// # Errors
    /// It has ended, or `/proc` cannot be read.
    pub fn children(&self) -> Result<Vec<u32>> {
        let path = format!("/proc/{}/task", self.process.id());
        let mut children = Vec::new();
        for task in std::fs::read_dir(&path).with_context(|| format!("reading {path}"))? {
            // A thread may end meanwhile; its children are another's then.
            let of_task = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            children.extend(of_task.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        Ok(children)
    }

    /// What it says about its health: 200 or 503 with what is down.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn health(&self) -> Result<Answer> {
        Client::new(&self.internal_url())?.get("/health/ready").await
    }

    /// Its page of metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = Client::new(&self.internal_url())?.get("/metrics").await?.expect(200)?;
        Ok(String::from_utf8_lossy(&answer.bytes).into_owned())
    }

    /// Its memory now.
    ///
    /// # Errors
    /// It has ended, or `/proc` cannot be read.
    pub fn memory(&self) -> Result<Memory> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.process.id());
            std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let (rollup, status) = (read("smaps_rollup")?, read("status")?);
        Ok(Memory {
            rss_bytes: kibibytes(&rollup, "Rss:")?,
            pss_bytes: kibibytes(&rollup, "Pss:")?,
            anonymous_bytes: kibibytes(&rollup, "Anonymous:")?,
            peak_rss_bytes: kibibytes(&status, "VmHWM:")?,
            data_bytes: kibibytes(&status, "VmData:")?,
        })
    }

    /// Lets the peak of [`Service::memory`] begin at what is resident now.
    ///
    /// # Errors
    /// It has ended, or `/proc` cannot be written.
    pub fn reset_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.process.id());
        std::fs::write(&path, "5").with_context(|| format!("writing {path}"))
    }

    /// What all its runs have written so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Where the gateway of this world listens, if it runs.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.site.gateway.address())
    }

    /// Where autha of this world listens, if it runs: the gateway's upstream.
    #[must_use]
    pub fn autha_url(&self) -> String {
        format!("http://{}", self.site.autha.address())
    }

    /// The console of this very process.
    #[must_use]
    pub fn console_url(&self) -> String {
        format!("http://{}", self.console.address())
    }

    /// The internal listener of this very process.
    #[must_use]
    pub fn internal_url(&self) -> String {
        format!("http://{}", self.internal.address())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that has failed already is not kept waiting, and whoever never was ready or is held owes nothing.
        let owes_nothing = std::thread::panicking() || !self.was_ready || self.process.is_frozen();
        if owes_nothing || self.site.is_closed.load(Ordering::SeqCst) || self.process.ended().is_some() {
            return;
        }
        self.keep_pages();
        // The proxies run on the test's runtime: where this thread is all it has, a process that asks its parts last things would wait
        // for us.
        let others_run = Handle::try_current()
            .is_ok_and(|runtime| matches!(runtime.runtime_flavor(), RuntimeFlavor::MultiThread));
        if others_run && !self.process.end_within(self.grace() + LATE) {
            let log = self.log.file_name().unwrap_or_default().to_string_lossy();
            let fault = format!("the process of {log} still ran {:?} after SIGTERM", self.grace() + LATE);
            self.site.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
        }
    }
}

fn start(
    site: &Site,
    services: &[String],
    settings: &BTreeMap<String, String>,
    log: &std::path::Path,
) -> Result<Process> {
    let arguments: Vec<&str> = std::iter::once("serve").chain(services.iter().map(String::as_str)).collect();
    Process::spawn(&site.binary, &arguments, settings, &site.folder, log)
}

/// The value of a line like `Rss:   1234 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    let number: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(number * 1024)
}
