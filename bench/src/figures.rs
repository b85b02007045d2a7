//! Figures: percentiles of times, what a figure is held against, the table and the JSON file. Measuring is elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::machine::Machine;

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Megabytes, 10^6 bytes.
    #[serde(rename = "MB")]
    Megabytes,
    /// Messages a second.
    #[serde(rename = "/s")]
    PerSecond,
    /// One rate over another.
    #[serde(rename = "ratio")]
    Ratio,
    /// Things counted.
    #[serde(rename = "count")]
    Count,
    /// Parts in a hundred.
    #[serde(rename = "%")]
    Percent,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
pub enum Bound {
    /// What we want to stay under.
    Aim(f64),
    /// What we want to stay above.
    Least(f64),
    /// What nobody can go below: the same work without us, measured in the same run.
    Limit(f64),
    /// Nothing: for information.
    None,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value, in `unit`.
    #[serde(serialize_with = "rounded")]
    pub value: f64,
    /// What it is counted in.
    pub unit: Unit,
    /// What it is held against.
    pub bound: Bound,
    /// How many measurements it was made from.
    pub samples: usize,
}

impl Figure {
    /// A value that was taken once.
    pub fn once(name: &str, value: f64, unit: Unit, bound: Bound) -> Self {
        Self { name: name.to_owned(), value, unit, bound, samples: 1 }
    }

    /// The value over what it is held against.
    fn ratio(&self) -> Option<f64> {
        match self.bound {
            Bound::Aim(bound) | Bound::Least(bound) | Bound::Limit(bound) => Some(self.value / bound),
            Bound::None => None,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.bound {
            Bound::Aim(aim) if self.value <= aim => "ok",
            Bound::Aim(_) => "OVER",
            Bound::Least(least) if self.value >= least => "ok",
            Bound::Least(_) => "UNDER",
            Bound::Limit(_) | Bound::None => "",
        }
    }
}

/// Times of the same thing, done many times.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that `percent` of them do not exceed (nearest rank).
    ///
    /// # Errors
    /// There are none.
    pub fn percentile(&self, percent: usize) -> Result<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().context("nothing was measured")
    }

    /// The figure of one percentile.
    ///
    /// # Errors
    /// There are no times.
    pub fn figure(&self, name: &str, percent: usize, bound: Bound) -> Result<Figure> {
        let value = milliseconds(self.percentile(percent)?);
        let name = format!("{name}, p{percent}");
        Ok(Figure { name, value, unit: Unit::Milliseconds, bound, samples: self.0.len() })
    }
}

/// A time in milliseconds with its fraction.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// All figures of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub benchmark: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// What it found.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Writes `bench/results/NAME.json` and gives its path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.benchmark));
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Prints the table and a last line that says whether every aim was reached.
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    pub fn print(&self, written: &Path) {
        println!("{}: {}", self.benchmark, self.machine);
        println!("{:<46} {:>9}      {:>14}  {:>6}", "figure", "value", "aim or limit", "ratio");
        for figure in &self.figures {
            let unit = match figure.unit {
                Unit::Milliseconds => "ms",
                Unit::Megabytes => "MB",
                Unit::PerSecond => "/s",
                Unit::Ratio => "x",
                Unit::Count => "",
                Unit::Percent => "%",
            };
            let bound = match figure.bound {
                Bound::Aim(aim) => format!("aim {aim:7.1}"),
                Bound::Least(least) => format!("at least {least:4.1}"),
                Bound::Limit(limit) => format!("limit {limit:7.1}"),
                Bound::None => String::new(),
            };
            let ratio = figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let digits = if matches!(figure.unit, Unit::Ratio) { 2 } else { 1 };
            let line = format!(
                "{:<46} {:>9.digits$} {unit:<3}  {bound:>14}  {ratio:>6}  {}",
                figure.name,
                figure.value,
                figure.verdict()
            );
            println!("{}", line.trim_end());
        }
        let missed =
            self.figures.iter().filter(|figure| matches!(figure.verdict(), "OVER" | "UNDER")).count();
        match missed {
            0 => println!("every aim is reached"),
            _ => println!("{missed} figures miss their aim"),
        }
        println!("written to {}", written.display());
    }
}

/// Three digits after the point: the rest is noise that only makes differences between two files.
fn rounded<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() -> Result<()> {
        let mut times = Times::default();
        assert!(times.percentile(50).is_err());
        for number in (1..=60).rev() {
            times.add(Duration::from_millis(number));
        }
        assert_eq!(times.percentile(50)?, Duration::from_millis(30));
        assert_eq!(times.percentile(99)?, Duration::from_millis(60));
        assert_eq!(times.percentile(100)?, Duration::from_millis(60));
        Ok(())
    }
}
