//! The section `internal`: the listener for operators that every process has. It is never exposed.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::Section;

/// Where health is told, and how long a shutdown may take.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Internal {
    /// Address and port.
    pub listen: SocketAddr,
    /// How long what was taken in may take to finish after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl Default for Internal {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8090)), grace: Duration::from_secs(10) }
    }
}

impl Section for Internal {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.grace.is_zero() {
            faults.push("internal.grace: must be above zero, such as 10s".to_owned());
        }
    }
}
