//! Records what `names` lists; what is as it is now lives in `gauges`, what is shown of all in `page`. Metrics belong to the process, as its log does:
//! the first one that is recorded makes the provider, unless `Telemetry` has made it with a way to a collector.

mod exemplars;
mod gauges;
mod page;

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, MeterProvider},
    trace::{SpanId, TraceId},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::Registry;

pub use self::gauges::{
    ActorFigures, OutboxFigures, PoolFigures, dead_letters_waiting, endpoints, endpoints_not_taken,
    observe_actors, observe_cache, observe_certificates, observe_discovery, observe_pool, outbox,
};
pub use self::page::{Format, PageError, page};
use crate::{
    names::{self, Kind, Label, Metric, Values},
    trace,
};

/// The registry that is shown, and the provider that fills it.
struct Shown {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
}

static SHOWN: OnceLock<Shown> = OnceLock::new();

impl Shown {
    fn new(extend: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder, resource: Resource) -> Self {
        let registry = Registry::new();
        let mut builder = SdkMeterProvider::builder().with_resource(resource);
        // A registry that is empty refuses nothing.
        if let Ok(exporter) = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build() {
            builder = builder.with_reader(exporter);
        }
        let provider = extend(builder).build();
        let meter = provider.meter("orrery");
        Self { registry, provider, meter }
    }
}

/// Makes the provider with more readers, before anything was recorded; none when something was.
pub(crate) fn install(
    extend: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
    resource: Resource,
) -> Option<SdkMeterProvider> {
    let shown = Shown::new(extend, resource);
    let provider = shown.provider.clone();
    SHOWN.set(shown).ok()?;
    gauges::observe_process(meter());
    Some(provider)
}

fn shown() -> &'static Shown {
    let mut made = false;
    let shown = SHOWN.get_or_init(|| {
        made = true;
        Shown::new(|builder| builder, Resource::builder_empty().build())
    });
    if made {
        gauges::observe_process(&shown.meter);
    }
    shown
}

fn meter() -> &'static Meter {
    &shown().meter
}

fn counter(metric: &Metric) -> Counter<u64> {
    meter().u64_counter(metric.name).with_unit(metric.unit).with_description(metric.about).build()
}

fn gauge(metric: &Metric) -> Gauge<u64> {
    meter().u64_gauge(metric.name).with_unit(metric.unit).with_description(metric.about).build()
}

fn seconds(metric: &Metric) -> Gauge<f64> {
    meter().f64_gauge(metric.name).with_unit(metric.unit).with_description(metric.about).build()
}

fn histogram(metric: &Metric) -> Histogram<f64> {
    let builder = meter().f64_histogram(metric.name).with_unit(metric.unit).with_description(metric.about);
    match metric.kind {
        Kind::Histogram(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
        Kind::Counter | Kind::Gauge => builder.build(),
    }
}

/// A label; its value is one of its set.
fn of(label: Label, value: &'static str) -> KeyValue {
    debug_assert!(
        matches!(label.values, Values::Named(_))
            || matches!(label.values, Values::These(values) if values.contains(&value)),
        "{value} is not among the values of {}",
        label.name
    );
    KeyValue::new(label.name, value)
}

/// A static of each instrument.
macro_rules! instruments {
    ($($id:ident: $ty:ty = $make:ident;)*) => {
        $(static $id: LazyLock<$ty> = LazyLock::new(|| $make(&names::$id));)*
    };
}

instruments! {
    REQUESTS: Histogram<f64> = histogram;
    LIMITED: Counter<u64> = counter;
    SHEDDED: Counter<u64> = counter;
    CACHE_LOOKUPS: Counter<u64> = counter;
    THROTTLED: Counter<u64> = counter;
    PASSWORDS: Histogram<f64> = histogram;
    OUTBOX_LAG: Histogram<f64> = histogram;
    OUTBOX_RELAYED: Counter<u64> = counter;
    DELIVERIES: Counter<u64> = counter;
    HANDLING: Histogram<f64> = histogram;
    EVENT_AGE: Histogram<f64> = histogram;
    QUARANTINED: Counter<u64> = counter;
    DEAD_LETTERS: Counter<u64> = counter;
    DOUBTS: Counter<u64> = counter;
    MAILS: Counter<u64> = counter;
    MAIL_SENDING: Histogram<f64> = histogram;
    IMAGES: Histogram<f64> = histogram;
    IMAGE_BYTES: Counter<u64> = counter;
    DISCOVERY_FRAMES: Counter<u64> = counter;
    DISCOVERY_CLOSED: Counter<u64> = counter;
    DISCOVERY_MESSAGES: Counter<u64> = counter;
    PUSHES: Counter<u64> = counter;
    PUSH_DELAY: Histogram<f64> = histogram;
    PUSH_ATTEMPTS: Histogram<f64> = histogram;
    POOL_WAIT: Histogram<f64> = histogram;
    POOL_TIMEOUTS: Counter<u64> = counter;
    TELEMETRY_EXPORTED: Counter<u64> = counter;
    TELEMETRY_DROPPED: Counter<u64> = counter;
    TELEMETRY_FAILURES: Counter<u64> = counter;
}

/// Records how long something took, with the trace that the caller runs in if that is recorded.
fn record(histogram: &Histogram<f64>, metric: &Metric, took: Duration, labels: &[KeyValue]) {
    record_of(histogram, metric, took, labels, trace::recorded());
}

fn record_of(
    histogram: &Histogram<f64>,
    metric: &Metric,
    took: Duration,
    labels: &[KeyValue],
    trace: Option<(TraceId, SpanId)>,
) {
    histogram.record(took.as_secs_f64(), labels);
    if let Some(trace) = trace {
        exemplars::keep(metric, took.as_secs_f64(), labels, trace);
    }
}

/// Shows at 0 what these services and handlers count, so that the first of anything is an increase that an alert can see.
pub fn begin(services: &[&'static str], handlers: &[&'static str]) {
    let none = |counter: &Counter<u64>, label: Label| match label.values {
        Values::These(values) => values.iter().for_each(|&value| counter.add(0, &[of(label, value)])),
        Values::Named(_) => {}
    };
    none(&TELEMETRY_EXPORTED, names::SIGNAL);
    none(&TELEMETRY_DROPPED, names::SIGNAL);
    none(&TELEMETRY_FAILURES, names::SIGNAL);
    for service in services {
        match *service {
            "gateway" => {
                none(&LIMITED, names::CLASS);
                none(&SHEDDED, names::SHED);
                none(&CACHE_LOOKUPS, names::LOOKUP);
            }
            "autha" => THROTTLED.add(0, &[]),
            "maily" => none(&MAILS, names::MAIL),
            "spinoza" => none(&IMAGE_BYTES, names::BYTES),
            "discovery" => {
                none(&DISCOVERY_FRAMES, names::FRAME);
                none(&DISCOVERY_CLOSED, names::CLOSED);
                none(&DISCOVERY_MESSAGES, names::PEER_MESSAGE);
            }
            "partners" => none(&PUSHES, names::PUSHED),
            _ => {}
        }
    }
    for &handler in handlers {
        let handler = of(names::HANDLER, handler);
        if let Values::These(outcomes) = names::DELIVERED.values {
            for &outcome in outcomes {
                DELIVERIES.add(0, &[handler.clone(), of(names::DELIVERED, outcome)]);
            }
        }
        for counter in [&QUARANTINED, &DEAD_LETTERS, &DOUBTS] {
            counter.add(0, std::slice::from_ref(&handler));
        }
    }
}

/// The counters of a relay begin at 0.
pub fn begin_relay(producer: &'static str) {
    if let Values::These(results) = names::RELAYED.values {
        for &result in results {
            OUTBOX_RELAYED.add(0, &[of(names::PRODUCER, producer), of(names::RELAYED, result)]);
        }
    }
}

/// A request was answered by `service` after `took`. `route` is the pattern that it fitted.
pub fn request(service: &'static str, method: &str, route: Option<&str>, status: u16, took: Duration) {
    let mut labels = vec![
        of(names::SERVICE, service),
        of(names::METHOD, names::method(method)),
        KeyValue::new(names::STATUS.name, i64::from(status)),
    ];
    // A copy is made here, since tables of routes come and go with the configuration.
    labels.extend(route.map(|route| KeyValue::new(names::ROUTE.name, route.to_owned())));
    record(&REQUESTS, &names::REQUESTS, took, &labels);
}

/// A request of that class was refused: its caller had asked too much.
pub fn limited(class: &'static str) {
    LIMITED.add(1, &[of(names::CLASS, class)]);
}

/// A request was refused: too much was going on there.
pub fn shed(reason: &'static str) {
    SHEDDED.add(1, &[of(names::SHED, reason)]);
}

/// The cache was asked, and had that.
pub fn cache_lookup(result: &'static str) {
    CACHE_LOOKUPS.add(1, &[of(names::LOOKUP, result)]);
}

/// Credentials were tried too often.
pub fn throttled() {
    THROTTLED.add(1, &[]);
}

/// A password was worked on, waiting included.
pub fn password(operation: &'static str, took: Duration) {
    record(&PASSWORDS, &names::PASSWORDS, took, &[of(names::PASSWORD, operation)]);
}

/// A delivery was answered for after `took`.
pub fn delivered(handler: &'static str, outcome: &'static str, took: Duration) {
    DELIVERIES.add(1, &[of(names::HANDLER, handler), of(names::DELIVERED, outcome)]);
    record(&HANDLING, &names::HANDLING, took, &[of(names::HANDLER, handler)]);
}

/// The effect of an event was done, so long after it happened.
pub fn event_age(handler: &'static str, age: Duration) {
    record(&EVENT_AGE, &names::EVENT_AGE, age, &[of(names::HANDLER, handler)]);
}

/// Messages were given to the quarantine queue.
pub fn quarantined(handler: &'static str, messages: u64) {
    QUARANTINED.add(messages, &[of(names::HANDLER, handler)]);
}

/// Rows of `producer` were published with that result.
pub fn relayed(producer: &'static str, result: &'static str, rows: usize) {
    if rows > 0 {
        OUTBOX_RELAYED.add(wide(rows), &[of(names::PRODUCER, producer), of(names::RELAYED, result)]);
    }
}

/// The broker has confirmed a row that was so old; `parent` is the `traceparent` that its message carries.
pub fn outbox_lag(producer: &'static str, age: Duration, parent: Option<&str>) {
    let trace = parent.and_then(trace::recorded_of);
    record_of(&OUTBOX_LAG, &names::OUTBOX_LAG, age, &[of(names::PRODUCER, producer)], trace);
}

/// A dead letter was moved into its table.
pub fn dead_letter(handler: &'static str) {
    DEAD_LETTERS.add(1, &[of(names::HANDLER, handler)]);
}

/// Nobody knows whether an effect happened.
pub fn doubt(handler: &'static str) {
    DOUBTS.add(1, &[of(names::HANDLER, handler)]);
}

/// What became of a try to send a mail; how long the server was spoken to, where it was.
pub fn mail(outcome: &'static str, took: Option<Duration>) {
    MAILS.add(1, &[of(names::MAIL, outcome)]);
    if let Some(took) = took {
        record(&MAIL_SENDING, &names::MAIL_SENDING, took, &[of(names::MAIL, outcome)]);
    }
}

/// A picture was worked on.
pub fn image(outcome: &'static str, took: Duration) {
    record(&IMAGES, &names::IMAGES, took, &[of(names::PICTURE, outcome)]);
}

/// Bytes of a picture were fetched (`original`) or stored (`variants`).
pub fn image_bytes(direction: &'static str, bytes: u64) {
    IMAGE_BYTES.add(bytes, &[of(names::BYTES, direction)]);
}

/// A frame of this event came from a peer; an event that is not told apart is `other`.
pub fn discovery_frame(event: &str) {
    let Values::These(known) = names::FRAME.values else { return };
    let event = known.iter().copied().find(|known| *known == event).unwrap_or("other");
    DISCOVERY_FRAMES.add(1, &[of(names::FRAME, event)]);
}

/// A socket of a peer was closed for this reason.
pub fn discovery_closed(reason: &'static str) {
    DISCOVERY_CLOSED.add(1, &[of(names::CLOSED, reason)]);
}

/// This became of messages for peers.
pub fn discovery_messages(outcome: &'static str, count: usize) {
    if count > 0 {
        DISCOVERY_MESSAGES.add(wide(count), &[of(names::PEER_MESSAGE, outcome)]);
    }
}

/// A try to deliver to an endpoint of a third party ended (`taken`, `retry`, `dead`); it was the `attempts`th.
pub fn pushed(outcome: &'static str, attempts: i32) {
    PUSHES.add(1, &[of(names::PUSHED, outcome)]);
    if outcome != "retry" {
        PUSH_ATTEMPTS.record(f64::from(attempts), &[of(names::SETTLED, outcome)]);
    }
}

/// An endpoint of a third party has taken an event so long after its commit.
pub fn push_delay(delay: Duration) {
    record(&PUSH_DELAY, &names::PUSH_DELAY, delay, &[]);
}

/// A connection of `pool` was waited for; whether it was had.
pub fn pool_wait(pool: &'static str, took: Duration, got: bool) {
    let label = [of(names::POOL, pool)];
    record(&POOL_WAIT, &names::POOL_WAIT, took, &label);
    if !got {
        POOL_TIMEOUTS.add(1, &label);
    }
}

/// The collector took so many of a signal.
pub(crate) fn exported(signal: &'static str, items: usize) {
    TELEMETRY_EXPORTED.add(wide(items), &[of(names::SIGNAL, signal)]);
}

/// So many of a signal were dropped.
pub(crate) fn dropped(signal: &'static str, items: usize) {
    TELEMETRY_DROPPED.add(wide(items), &[of(names::SIGNAL, signal)]);
}

/// The collector did not take an export.
pub(crate) fn export_failed(signal: &'static str) {
    TELEMETRY_FAILURES.add(1, &[of(names::SIGNAL, signal)]);
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
