//! Lines of the log as records of OpenTelemetry, with the fields that the configured detail keeps. The library's own bridge keeps them all.

use std::fmt::Debug;

use opentelemetry::{
    Key,
    logs::{AnyValue, LogRecord, Logger, Severity},
};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::Detail;

/// Gives each line to `logger`; the SDK adds the trace that it is in.
pub(super) struct Records {
    logger: SdkLogger,
    detail: Detail,
}

impl Records {
    pub(super) fn new(logger: SdkLogger, detail: Detail) -> Self {
        Self { logger, detail }
    }
}

impl<S: Subscriber> Layer<S> for Records {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let about = event.metadata();
        let severity = match *about.level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warn,
            Level::INFO => Severity::Info,
            Level::DEBUG => Severity::Debug,
            Level::TRACE => Severity::Trace,
        };
        let mut record = self.logger.create_log_record();
        record.set_target(about.target());
        record.set_severity_number(severity);
        record.set_severity_text(about.level().as_str());
        event.record(&mut Filling { record: &mut record, detail: self.detail });
        self.logger.emit(record);
    }
}

struct Filling<'a> {
    record: &'a mut SdkLogRecord,
    detail: Detail,
}

impl Filling<'_> {
    fn put(&mut self, field: &Field, value: impl Into<AnyValue>) {
        if !self.detail.keeps(field.name()) {
            return;
        }
        match field.name() {
            "message" => self.record.set_body(value.into()),
            name => self.record.add_attribute(Key::from_static_str(name), value.into()),
        }
    }
}

impl Visit for Filling<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.put(field, value),
            Err(_) => self.put(field, value.to_string()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.detail.keeps(field.name()) {
            self.put(field, format!("{value:?}"));
        }
    }
}
