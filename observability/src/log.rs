//! The log, on standard error and, where telemetry is on, by OTLP. What is logged is decided where it happens; no name, address or token may
//! stand in it. Only our own crates are heard: libraries quote what they handle, and what matters of theirs reaches us as errors.

mod lines;
mod records;

use std::sync::{Mutex, PoisonError};

use opentelemetry_sdk::{logs::SdkLogger, trace::SdkTracer};
use serde::{Deserialize, Serialize};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use self::{
    lines::{Fields, JsonFields, JsonLines},
    records::Records,
};
use crate::trace;

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

/// How much a line tells. Names, addresses, tokens and accounts are told by none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// What happened, in words that never vary.
    None,
    /// With what it concerns of the system: handlers, queues, counts, the texts of errors.
    System,
    /// With the ids of events, uploads, keys and traces.
    #[default]
    Ids,
}

/// Fields that hold an id of something that happened for one person.
const IDS: [&str; 5] = ["event", "kid", "trace", "trace_id", "upload"];

impl Detail {
    /// Whether a line of that detail has a field.
    fn keeps(self, field: &str) -> bool {
        match self {
            Self::None => field == "message",
            Self::System => !IDS.contains(&field),
            Self::Ids => true,
        }
    }
}

/// The section `log`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,orrery_bus=debug`.
    pub level: String,
    /// How lines look.
    pub format: Format,
    /// How much they tell.
    pub detail: Detail,
    /// Libraries that are heard as well, by the names of their crates. They may quote what they handle.
    pub libraries: Vec<String>,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Text, detail: Detail::Ids, libraries: Vec::new() }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no level.
    #[error("log.level: is no level; use error, warn, info, debug or trace: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The log has ended.
    #[error("log.level: cannot be changed any more: {0}")]
    Ended(#[from] reload::Error),
    /// Something else logs already.
    #[error("the log was started twice: {0}")]
    Started(#[from] TryInitError),
}

/// Whether a target is ours, or one of those that are heard as well.
fn is_heard(target: &str, libraries: &[String]) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name == "orrery"
        || name.starts_with("orrery_")
        || name == "cloudevents_amqp"
        || libraries.iter().any(|library| library.replace('-', "_") == name)
}

/// What sets the level of each place that lines go to.
static LEVELS: Mutex<Vec<SetLevel>> = Mutex::new(Vec::new());
type SetLevel = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>;

/// Has lines from now on from this level up, as `log.level` says it.
///
/// # Errors
/// When it is no level; then nothing changes.
pub fn set_level(level: &str) -> Result<(), LogError> {
    for set in LEVELS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        set(EnvFilter::builder().parse(level)?)?;
    }
    Ok(())
}

/// What gets into the log.
fn heard<S: Subscriber + 'static>(log: &Log) -> Result<impl Filter<S> + use<S>, LogError> {
    let (level, handle) = reload::Layer::<EnvFilter, S>::new(EnvFilter::builder().parse(&log.level)?);
    let set: SetLevel = Box::new(move |level| handle.reload(level));
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner).push(set);
    let libraries = log.libraries.clone();
    // Without a hint of its own it would hide that of the level.
    let ours = filter_fn(move |about: &Metadata<'_>| is_heard(about.target(), &libraries))
        .with_max_level_hint(LevelFilter::TRACE);
    Ok(FilterExt::<S>::and(level, ours))
}

/// Lines on standard error.
fn lines<S>(log: &Log) -> Result<Box<dyn Layer<S> + Send + Sync>, LogError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + 'static,
{
    let (detail, filter) = (log.detail, heard::<S>(log)?);
    Ok(match log.format {
        Format::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_target(false)
            .fmt_fields(Fields(detail))
            .with_filter(filter)
            .boxed(),
        Format::Json => fmt::layer()
            .with_writer(std::io::stderr)
            .event_format(JsonLines(detail))
            .fmt_fields(JsonFields(detail))
            .with_filter(filter)
            .boxed(),
    })
}

/// Starts the log, and gives spans to `tracer` and lines to `logger` where there are such.
pub(crate) fn start(log: &Log, tracer: Option<SdkTracer>, logger: Option<SdkLogger>) -> Result<(), LogError> {
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                filter_fn(|about| about.is_span() && about.target() == trace::TARGET)
                    .with_max_level_hint(LevelFilter::INFO),
            )
    });
    let records = match logger {
        Some(logger) => Some(Records::new(logger, log.detail).with_filter(heard(log)?)),
        None => None,
    };
    tracing_subscriber::registry().with(spans).with(records).with(lines(log)?).try_init()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_heard_only_when_it_is_named() {
        for target in ["orrery", "orrery::serve", "orrery_bus::handling", "cloudevents_amqp"] {
            assert!(is_heard(target, &[]), "{target}");
        }
        for target in ["lapin", "hyper::client", "orreryx", "tokio_postgres::query", "otel", ""] {
            assert!(!is_heard(target, &[]), "{target}");
        }
        assert!(is_heard("aws_smithy_runtime::client", &["aws-smithy-runtime".to_owned()]));
    }

    #[test]
    fn details_are_kept_by_their_setting() {
        for (detail, message, handler, event) in [
            (Detail::None, true, false, false),
            (Detail::System, true, true, false),
            (Detail::Ids, true, true, true),
        ] {
            let kept = ["message", "handler", "event"].map(|field| detail.keeps(field));
            assert_eq!(kept, [message, handler, event], "{detail:?}");
        }
    }
}
