//! The log, on standard error. What is logged is decided where it happens; no name, address or token may stand in it.

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt, util::TryInitError};

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The section `log`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,orrery_actors=debug`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no level.
    #[error("log.level: is no level; use error, warn, info, debug or trace: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else logs already.
    #[error("the log was started twice: {0}")]
    Started(#[from] TryInitError),
}

/// Starts the log on standard error.
///
/// # Errors
/// When the level cannot be read, or the log was started before.
pub fn start(log: &Log) -> Result<(), LogError> {
    // Libraries quote what they handle: lapin logs a returned message whole, names and all. What matters of theirs reaches us as errors.
    let quiet = format!(
        "{},lapin=off,tokio_postgres=off,hyper=warn,h2=warn,aws_smithy_runtime=warn,s3s=warn,actix_http=off,actix_server=warn",
        log.level
    );
    let filter = EnvFilter::builder().parse(quiet)?;
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        Format::Text => {
            registry
                .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false))
                .try_init()?;
        }
        Format::Json => {
            registry
                .with(fmt::layer().json().with_writer(std::io::stderr).with_current_span(true))
                .try_init()?;
        }
    }
    Ok(())
}
