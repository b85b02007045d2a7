//! Starts the log, and where it is turned on traces, metrics and logs by OTLP; flushes them at exit.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, logs::LoggerProvider, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder as LogBatches, BatchLogProcessor, SdkLoggerProvider},
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{
        BatchConfigBuilder as SpanBatches, BatchSpanProcessor, IdGenerator, RandomIdGenerator,
        SdkTracerProvider,
    },
};

use crate::{
    bounded::{Bounded, Counted, Gate},
    config::Config,
    log::{self, Log, LogError},
    metrics,
    otlp::{ExportThread, Exporters},
    sampling::Sampling,
    trace,
};

/// How long spans and records wait for company, and how many go at once.
const DELAY: Duration = Duration::from_secs(1);
const BATCH: usize = 512;
/// The most attributes of one span; ours have far less.
const ATTRIBUTES: u32 = 32;

/// Telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log cannot.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No thread can be had.
    #[error("telemetry gets no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The way to the collector cannot be built.
    #[error("telemetry: {0}")]
    Exporter(String),
    /// The authority's certificate cannot be read.
    #[error("telemetry.ca_file: {0} cannot be read: {1}")]
    Authority(PathBuf, String),
    /// Metrics were recorded before.
    #[error("telemetry was started after the first metric")]
    Late,
}

/// What telemetry is started by.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The section `log`.
    pub log: &'a Log,
    /// The section `telemetry`.
    pub telemetry: &'a Config,
    /// The name of the process in traces (`service.name`).
    pub service: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// Telemetry that runs. What waits is sent when this is dropped.
#[must_use]
pub struct Telemetry {
    running: Option<Running>,
}

struct Running {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: Option<SdkMeterProvider>,
    flush: Duration,
    _export_thread: ExportThread,
}

impl Telemetry {
    /// Starts the log, and sends what `settings.telemetry` says. Where that is off, no exporter, no queue and no thread is made.
    ///
    /// # Errors
    /// When a setting cannot be used, or something was started before.
    pub fn start(settings: Settings<'_>) -> Result<Self, TelemetryError> {
        if !settings.telemetry.enabled {
            log::start(settings.log, None, None)?;
            return Ok(Self { running: None });
        }
        let config = settings.telemetry;
        let export_thread = ExportThread::start()?;
        let exporters = Exporters { config, export_thread: &export_thread };
        let resource = resource(&settings);
        let gate = |signal, limit| Gate::new(signal, limit, config.timeout, export_thread.handle().clone());

        let traces = config.traces.then(|| {
            let gate = gate("traces", config.queue);
            let exporter = Counted { inner: exporters.spans()?, gate: gate.clone() };
            let batches = SpanBatches::default()
                .with_max_queue_size(config.queue)
                .with_max_export_batch_size(BATCH.min(config.queue))
                .with_scheduled_delay(DELAY);
            let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
            Ok::<_, TelemetryError>(
                SdkTracerProvider::builder()
                    .with_span_processor(Bounded { inner, gate })
                    .with_sampler(Sampling::new(config.sampling))
                    .with_max_attributes_per_span(ATTRIBUTES)
                    .with_max_links_per_span(u32::try_from(trace::LINKS).unwrap_or(u32::MAX))
                    .with_resource(resource.clone())
                    .build(),
            )
        });
        let traces = traces.transpose()?;
        let logs = config.logs.then(|| {
            let gate = gate("logs", config.queue);
            let exporter = Counted { inner: exporters.logs()?, gate: gate.clone() };
            let batches = LogBatches::default()
                .with_max_queue_size(config.queue)
                .with_max_export_batch_size(BATCH.min(config.queue))
                .with_scheduled_delay(DELAY);
            let inner = BatchLogProcessor::builder(exporter).with_batch_config(batches.build()).build();
            Ok::<_, TelemetryError>(
                SdkLoggerProvider::builder()
                    .with_log_processor(Bounded { inner, gate })
                    .with_resource(resource.clone())
                    .build(),
            )
        });
        let logs = logs.transpose()?;
        let metrics = if config.metrics {
            let exporter = Counted { inner: exporters.metrics()?, gate: gate("metrics", 0) };
            let reader = PeriodicReader::builder(exporter).with_interval(config.interval).build();
            let installed = metrics::install(|builder| builder.with_reader(reader), resource);
            Some(installed.ok_or(TelemetryError::Late)?)
        } else {
            None
        };
        let tracer = traces.as_ref().map(|provider| provider.tracer(trace::SCOPE));
        let logger = logs.as_ref().map(|provider| provider.logger(trace::SCOPE));
        let has_spans = tracer.is_some();
        log::start(settings.log, tracer, logger)?;
        if has_spans {
            trace::turn_on();
        }
        Ok(Self {
            running: Some(Running {
                traces,
                logs,
                metrics,
                flush: config.flush,
                _export_thread: export_thread,
            }),
        })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let begun = Instant::now();
        let left = || running.flush.saturating_sub(begun.elapsed());
        let ended = [
            running.traces.as_ref().map(|traces| traces.shutdown_with_timeout(left())),
            running.logs.as_ref().map(|logs| logs.shutdown_with_timeout(left())),
            running.metrics.as_ref().map(|metrics| metrics.shutdown_with_timeout(left())),
        ];
        let lost = ended.into_iter().flatten().filter(Result::is_err).count();
        if lost > 0 {
            tracing::warn!(signals = lost, "telemetry was not sent in full before the end");
        }
    }
}

/// Who tells.
fn resource(settings: &Settings<'_>) -> Resource {
    let instance = RandomIdGenerator::default().new_trace_id().to_string();
    let mut about = vec![
        KeyValue::new("service.name", settings.service.to_owned()),
        KeyValue::new("service.namespace", "orrery"),
        KeyValue::new("service.version", settings.version.to_owned()),
        KeyValue::new("service.instance.id", instance),
    ];
    if !settings.telemetry.environment.is_empty() {
        about.push(KeyValue::new("deployment.environment.name", settings.telemetry.environment.clone()));
    }
    Resource::builder_empty().with_attributes(about).build()
}
