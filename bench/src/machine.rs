//! Where a benchmark ran: what one has to know to compare two results. Nothing here tells when, or on whose machine.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use orrery_tests::environment;
use serde::Serialize;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Cores that we may use.
    pub cores: usize,
    /// The processor as Linux names it.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processes that wanted to run in the minute before: well above 0, the figures are of a busy machine.
    pub load_before: String,
    /// The folder below `target/` that the binary is from.
    pub profile: String,
    /// The commit, with `-dirty` where files were changed; none outside a repository.
    pub commit: Option<String>,
}

impl Machine {
    /// Looks at this machine.
    ///
    /// # Errors
    /// `/proc` cannot be read, or there is no binary.
    pub fn look() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
        let cpus = read("/proc/cpuinfo")?;
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let load = read("/proc/loadavg")?;
        let profile = environment::binary()?.parent().and_then(Path::file_name).map(|name| name.to_owned());
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: cpu.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            profile: profile.unwrap_or_default().to_string_lossy().into_owned(),
            commit: commit(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, cpu, kernel, load_before, profile, commit } = self;
        let commit = commit.as_deref().unwrap_or("unknown");
        write!(f, "{profile} build of {commit} on {cores} cores of {cpu}, Linux {kernel}, load {load_before}")
    }
}

fn commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
