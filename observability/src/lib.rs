//! Telemetry: the log, metrics and traces. What is told is decided where it happens; no name, address or token may stand in it.

mod bounded;
mod config;
mod log;
pub mod metrics;
pub mod names;
mod otlp;
mod sampling;
mod telemetry;
pub mod trace;

/// The definitions of all alerts, in TOML.
pub const ALERTS: &str = include_str!("../alerts.toml");

pub use config::{Config, Protocol};
pub use log::{Detail, Format, Log, LogError, set_level};
pub use telemetry::{Settings, Telemetry, TelemetryError};
