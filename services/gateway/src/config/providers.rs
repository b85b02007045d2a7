//! `[gateway.providers]`: whether service providers that operators register are served, by listeners in role forward.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Registered service providers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Providers {
    /// Whether they are read from PostgreSQL.
    pub enabled: bool,
    /// How often the database is asked whether something changed.
    #[serde(with = "humantime_serde")]
    pub look_every: Duration,
    /// How often what was used is written down.
    #[serde(with = "humantime_serde")]
    pub count_every: Duration,
}

impl Default for Providers {
    fn default() -> Self {
        Self { enabled: false, look_every: Duration::from_secs(1), count_every: Duration::from_secs(10) }
    }
}

impl Providers {
    /// Adds a line for each fault.
    pub fn validate(&self, faults: &mut Vec<String>) {
        for (name, value) in [("look_every", self.look_every), ("count_every", self.count_every)] {
            if value < Duration::from_millis(100) {
                faults.push(format!("gateway.providers.{name}: must be 100ms or more, such as 1s"));
            }
        }
    }
}
