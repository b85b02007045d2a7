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

/// The processors' time since the start, in ticks: what a host took from us meanwhile is the difference of two looks.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorTime {
    /// On all processors, whatever for.
    all: u64,
    /// While we would have run and the host ran others: `steal` of proc_stat(5).
    stolen: u64,
}

impl ProcessorTime {
    /// Looks now.
    ///
    /// # Errors
    /// `/proc/stat` cannot be read.
    pub fn look() -> Result<Self> {
        Self::read(&std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?)
    }

    /// The ninth word of the first line is `steal`; those behind it are counted before it.
    fn read(stat: &str) -> Result<Self> {
        let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
        let ticks = words
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()
            .context("/proc/stat is unlike proc_stat(5)")?;
        let stolen = *ticks.get(7).context("/proc/stat tells no stolen time")?;
        Ok(Self { all: ticks.iter().sum(), stolen })
    }

    /// The share that the host took since `earlier`, in percent of all processors' time.
    pub fn stolen_since(self, earlier: Self) -> f64 {
        let ticks =
            |now: u64, then: u64| f64::from(u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX));
        100.0 * ticks(self.stolen, earlier.stolen) / ticks(self.all, earlier.all).max(1.0)
    }
}

fn commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stolen_share_is_of_all_processor_time_between_two_looks() -> Result<()> {
        let earlier = ProcessorTime::read("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 2 3\n")?;
        let later = ProcessorTime::read("cpu  40 0 30 90 0 5 5 30 25 0\n")?;
        assert!((later.stolen_since(earlier) - 20.0).abs() < 1e-9);
        assert!(later.stolen_since(later).abs() < 1e-9);
        assert!(ProcessorTime::read("cpu  1 2 3\n").is_err());
        Ok(())
    }
}
