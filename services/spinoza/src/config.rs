//! The section `spinoza`. Storage, broker and database have sections of their own.

use std::time::Duration;

use orrery_actors::config::Section;
use serde::{Deserialize, Serialize};

/// The image optimiser.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Pictures that are worked on at once; each may take as much memory as its pixels need.
    pub concurrency: u16,
    /// How long a failed try waits before the second.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// How long one picture may take.
    #[serde(with = "humantime_serde")]
    pub time_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { concurrency: 2, retry_delay: Duration::from_secs(10), time_limit: Duration::from_secs(60) }
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if !(1..=256).contains(&self.concurrency) {
            faults.push("spinoza.concurrency: must be 1 to 256".to_owned());
        }
        for (name, value) in [("retry_delay", self.retry_delay), ("time_limit", self.time_limit)] {
            if value.is_zero() {
                faults.push(format!("spinoza.{name}: must be above zero, such as 10s"));
            }
        }
    }
}
