//! What stands between the program and the exporters: at most so many items are inside at once, what does not fit is dropped, and what became of
//! every one is counted. Nobody waits here.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, InstrumentationScope, logs::Severity};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::metrics;

/// The bound of one signal.
#[derive(Debug)]
pub(crate) struct Gate {
    signal: &'static str,
    limit: usize,
    inside: AtomicUsize,
    timeout: Duration,
    runtime: Handle,
    taken: AtomicBool,
}

impl Gate {
    pub(crate) fn new(signal: &'static str, limit: usize, timeout: Duration, runtime: Handle) -> Arc<Self> {
        let (inside, taken) = (AtomicUsize::new(0), AtomicBool::new(true));
        Arc::new(Self { signal, limit, inside, timeout, runtime, taken })
    }

    /// Whether one more fits; what does not is counted.
    fn admit(&self) -> bool {
        let fits = |inside: usize| (inside < self.limit).then(|| inside + 1);
        let admitted = self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !admitted {
            metrics::dropped(self.signal, 1);
        }
        admitted
    }

    /// Sends `items`, within the time that the collector has.
    async fn send(&self, items: usize, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        // The threads of the SDK have no runtime of their own.
        let mut limited = pin!(async { tokio::time::timeout(self.timeout, export).await });
        let sent = poll_fn(|context| {
            let _entered = self.runtime.enter();
            limited.as_mut().poll(context)
        });
        let sent = sent.await.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)));
        let leave = |inside: usize| Some(inside.saturating_sub(items));
        let _before = self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, leave);
        match &sent {
            Ok(()) => {
                metrics::exported(self.signal, items);
                if !self.taken.swap(true, Ordering::Relaxed) {
                    info!(signal = self.signal, "the collector takes telemetry again");
                }
            }
            Err(error) => {
                metrics::export_failed(self.signal);
                if self.limit > 0 {
                    metrics::dropped(self.signal, items);
                }
                if self.taken.swap(false, Ordering::Relaxed) {
                    warn!(signal = self.signal, %error, "the collector does not take telemetry: it is dropped and counted");
                }
            }
        }
        sent
    }
}

/// An exporter whose results are counted.
#[derive(Debug)]
pub(crate) struct Counted<E> {
    pub(crate) inner: E,
    pub(crate) gate: Arc<Gate>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.gate.send(batch.len(), self.inner.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let items = batch.iter().count();
        self.gate.send(items, self.inner.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.gate.send(1, self.inner.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// A processor that lets in what fits.
#[derive(Debug)]
pub(crate) struct Bounded<P> {
    pub(crate) inner: P,
    pub(crate) gate: Arc<Gate>,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.gate.admit() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Bounded<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.gate.admit() {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_what_was_sent_makes_room() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let gate = Gate::new("traces", 2, Duration::from_millis(50), runtime.handle().clone());
        assert_eq!([gate.admit(), gate.admit(), gate.admit()], [true, true, false]);
        runtime.block_on(gate.send(1, async { Ok(()) })).unwrap();
        assert_eq!([gate.admit(), gate.admit()], [true, false]);
        // One that never answers is given up, and its items leave.
        runtime.block_on(gate.send(2, std::future::pending())).unwrap_err();
        assert!(gate.admit());
        assert!(!gate.taken.load(Ordering::Relaxed));
    }
}
