//! The section `internal`: the listener for operators that every process has. It is never exposed.

use std::{net::SocketAddr, time::Duration};

use orrery_supervise::Limits;
use serde::{Deserialize, Serialize};

use super::Section;

/// Below it a loaded machine alone would look like a fault.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);

/// Where health is told, and how long a shutdown may take.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Internal {
    /// Address and port.
    pub listen: SocketAddr,
    /// How long after SIGTERM everything is taken in as before while the process says that it is not ready: balancers lead elsewhere meanwhile.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long what was taken in may take to finish after that.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How long an actor may have work and get nothing done before it is cancelled and built anew.
    #[serde(with = "humantime_serde")]
    pub stall_limit: Duration,
    /// How long code may hold its thread before the process ends, to be started again.
    #[serde(with = "humantime_serde")]
    pub blocked_limit: Duration,
}

impl Default for Internal {
    fn default() -> Self {
        let Limits { grace, stall, blocked } = Limits::default();
        let listen = SocketAddr::from(([127, 0, 0, 1], 8090));
        Self { listen, drain_delay: Duration::ZERO, grace, stall_limit: stall, blocked_limit: blocked }
    }
}

impl Section for Internal {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.grace.is_zero() {
            faults.push("internal.grace: must be above zero, such as 10s".to_owned());
        }
        for (name, limit) in [("stall_limit", self.stall_limit), ("blocked_limit", self.blocked_limit)] {
            if limit < SHORTEST_LIMIT {
                faults.push(format!("internal.{name}: must be at least {SHORTEST_LIMIT:?}, such as 30s"));
            }
        }
    }
}
