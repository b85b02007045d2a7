//! A child process with a log file, which never outlives its test. What `orrery` is told is in `service` and `world`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::eventually;

/// Sends its child SIGKILL when the thread that started it ends, and so also when a test is killed. It then becomes
/// the program itself, so that the process id stays the same. (Doing it ourselves between fork and exec is `unsafe`.)
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running or ended child; dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// How a process that was waited for ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stdout and stderr.
    pub output: String,
}

impl Process {
    /// Starts `program` with nothing but `settings` in its environment, in `folder`; both outputs are appended to `log`.
    ///
    /// It must be called on a thread that lives as long as the test: the test's own, or a runtime's worker.
    ///
    /// # Errors
    /// The log cannot be opened, or the program cannot be started.
    pub fn spawn(
        program: &Path,
        arguments: &[&str],
        settings: &BTreeMap<String, String>,
        folder: &Path,
        log: &Path,
    ) -> Result<Self> {
        Self::spawn_reading(Stdio::null(), program, arguments, settings, folder, log)
    }

    /// The same for a program that reads `input`.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn_reading(
        input: Stdio,
        program: &Path,
        arguments: &[&str],
        settings: &BTreeMap<String, String>,
        folder: &Path,
        log: &Path,
    ) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        let mut command = if Path::new(SETPRIV).exists() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).env_clear().envs(settings).current_dir(folder);
        command.stdin(input).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL; when this returns, the process is gone and its connections are closed by the kernel.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, signal).with_context(|| format!("sending {signal} to process {id}"))
    }

    /// SIGTERM, then SIGKILL if it has not ended within `grace`; whether it has. For `Drop`: it blocks the thread.
    pub fn end_within(&mut self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        // It fails only for a process that has ended already.
        self.signal(Signal::SIGTERM).ok();
        while self.ended().is_none() {
            if Instant::now() >= end {
                self.kill();
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Waits for its end as [`Process::wait`] does, for `Drop`: it blocks the thread.
    ///
    /// # Errors
    /// It still runs after `deadline`.
    pub fn wait_blocking(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            match self.ended() {
                Some(status) => return Ok(status),
                None if Instant::now() >= end => bail!("process {} still ran after {deadline:?}", self.id()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Whether it is held by SIGSTOP.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        status.is_ok_and(|status| status.contains("State:\tT"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `deadline`; the error has the end of its log.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of process {}", self.child.id());
        let waited = eventually(deadline, &what, async || self.ended()).await;
        waited.with_context(|| tail(&self.log, 40))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The whole text of a log; empty where there is none.
pub(crate) fn read_log(log: &Path) -> String {
    std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines of a log under a line with its name.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = read_log(log);
    let all: Vec<&str> = text.lines().collect();
    let last = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    format!("--- {name}, the last {} of {} lines\n{}", last.len(), all.len(), last.join("\n"))
}
