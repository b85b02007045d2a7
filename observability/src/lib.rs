//! Telemetry: the log and the metrics. What is told is decided where it happens; no name, address or token may stand in it.

mod log;
pub mod metrics;

pub use log::{Format, Log, LogError, start};
