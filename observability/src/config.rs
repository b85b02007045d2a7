//! The section `telemetry`: whether and where traces, metrics and logs are sent by OTLP. `/metrics` and the log on standard error do not need it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

/// How the collector is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP over gRPC, by custom on port 4317.
    #[default]
    Grpc,
    /// OTLP as protobuf over HTTP, by custom on port 4318.
    Http,
}

/// The section `telemetry`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether anything is sent.
    pub enabled: bool,
    /// The collector: `http` or `https`, a host and a port.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// PEM file of the authority that signed its certificate; without it those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether the log is sent.
    pub logs: bool,
    /// Which part of the traces that begin here is recorded, 0 to 1; one that came with a request is recorded if its sender recorded it.
    pub sampling: f64,
    /// Spans, and records of the log, that may wait to be sent; more are dropped and counted.
    pub queue: usize,
    /// How long the collector may take for an answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often metrics are sent.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long what waits may take to be sent at exit.
    #[serde(with = "humantime_serde")]
    pub flush: Duration,
    /// The environment as dashboards name it (`deployment.environment.name`).
    pub environment: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: "http://127.0.0.1:4317".to_owned(),
            protocol: Protocol::Grpc,
            ca_file: None,
            traces: true,
            metrics: true,
            logs: true,
            sampling: 0.1,
            queue: 4096,
            timeout: Duration::from_secs(5),
            interval: Duration::from_secs(15),
            flush: Duration::from_secs(2),
            environment: String::new(),
        }
    }
}

impl Config {
    /// Adds what is wrong with it, in words that begin with the key.
    pub fn validate(&self, faults: &mut Vec<String>) {
        let endpoint = Url::parse(&self.endpoint);
        let sound = endpoint.is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
        });
        if !sound {
            faults.push(
                "telemetry.endpoint: is no address of a collector; write http://host:4317 or https://host:4317"
                    .to_owned(),
            );
        }
        if !(0.0..=1.0).contains(&self.sampling) {
            faults.push("telemetry.sampling: is no part of all; write 0 to 1".to_owned());
        }
        if !(1..=1_000_000).contains(&self.queue) {
            faults.push("telemetry.queue: is out of bounds; write 1 to 1000000".to_owned());
        }
        for (name, value) in [("timeout", self.timeout), ("interval", self.interval), ("flush", self.flush)] {
            if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&value) {
                faults.push(format!("telemetry.{name}: is out of bounds; write 100ms to 1h"));
            }
        }
        if let Some(file) = &self.ca_file
            && let Err(error) = std::fs::read(file)
        {
            faults.push(format!("telemetry.ca_file: {} cannot be read: {error}", file.display()));
        }
    }

    /// The address of a signal over HTTP.
    pub(crate) fn of_signal(&self, signal: &str) -> String {
        format!("{}/v1/{signal}", self.endpoint.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_told_by_its_key() {
        let faults = |config: Config| {
            let mut faults = Vec::new();
            config.validate(&mut faults);
            faults
        };
        assert!(faults(Config::default()).is_empty());
        let wrong = Config {
            endpoint: "collector:4317".to_owned(),
            sampling: 1.5,
            queue: 0,
            flush: Duration::ZERO,
            ca_file: Some(PathBuf::from("/nowhere.pem")),
            ..Config::default()
        };
        let told = faults(wrong);
        for key in ["endpoint", "sampling", "queue", "flush", "ca_file"] {
            assert!(told.iter().any(|fault| fault.starts_with(&format!("telemetry.{key}: "))), "{told:?}");
        }
        let secret = Config { endpoint: "http://me:secret@collector".to_owned(), ..Config::default() };
        assert_eq!(faults(secret).len(), 1, "its address is shown and logged, so no secret may stand in it");
    }
}
