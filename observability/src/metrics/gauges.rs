//! What is as it is now: read when the page is, or told by whoever looked last.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use opentelemetry::{
    KeyValue,
    metrics::{Gauge, Meter},
};

use super::{gauge, meter, of, seconds, wide};
use crate::names::{self, Metric};

static OUTBOX_PENDING: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::OUTBOX_PENDING));
static OUTBOX_OLDEST: LazyLock<Gauge<f64>> = LazyLock::new(|| seconds(&names::OUTBOX_OLDEST));
static OUTBOX_REFUSED: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::OUTBOX_REFUSED));
static OUTBOX_UNROUTED: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::OUTBOX_UNROUTED));
static OUTBOX_FAILED: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::OUTBOX_FAILED));
static DEAD_LETTERS_WAITING: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::DEAD_LETTERS_WAITING));

static ENDPOINTS: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::ENDPOINTS));
static ENDPOINTS_NOT_TAKEN: LazyLock<Gauge<u64>> = LazyLock::new(|| gauge(&names::ENDPOINTS_NOT_TAKEN));

/// What one actor shows.
pub struct ActorFigures {
    /// Its name.
    pub name: String,
    /// Whether it is at work, and not between two lives.
    pub running: bool,
    /// Lives before this one.
    pub restarts: u64,
    /// Messages that wait for their place.
    pub waiting: u64,
    /// What it has begun and not finished.
    pub at_work: u64,
    /// How many messages may wait.
    pub capacity: usize,
    /// How many may be at work at once.
    pub concurrency: usize,
    /// Messages that were refused because as many waited as may.
    pub refused: u64,
    /// Messages whose work panicked.
    pub failures: u64,
}

/// What the outbox of a producer shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboxFigures {
    /// Whose rows.
    pub producer: &'static str,
    /// Rows that are to be published.
    pub pending: u64,
    /// How long the oldest of them waits, in seconds.
    pub oldest: f64,
    /// Rows that the broker refused to keep.
    pub refused: u64,
    /// Rows that a queue should be bound for and none was.
    pub unrouted: u64,
    /// Rows that can never be published.
    pub failed: u64,
}

/// What a pool of connections shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolFigures {
    /// Connections that there are.
    pub size: usize,
    /// Those that do nothing.
    pub idle: usize,
    /// How many there may be.
    pub max: usize,
    /// Who waits for one.
    pub waiting: usize,
}

/// The outbox was looked at.
pub fn outbox(figures: &OutboxFigures) {
    let label = [of(names::PRODUCER, figures.producer)];
    OUTBOX_PENDING.record(figures.pending, &label);
    OUTBOX_OLDEST.record(figures.oldest, &label);
    OUTBOX_REFUSED.record(figures.refused, &label);
    OUTBOX_UNROUTED.record(figures.unrouted, &label);
    OUTBOX_FAILED.record(figures.failed, &label);
}

/// So many dead letters of `handler` wait for an operator.
pub fn dead_letters_waiting(handler: &'static str, letters: u64) {
    DEAD_LETTERS_WAITING.record(letters, &[of(names::HANDLER, handler)]);
}

/// So many endpoints of third parties are `pending`, `active`, `failing` or `disabled`.
pub fn endpoints(state: &'static str, count: u64) {
    ENDPOINTS.record(count, &[of(names::ENDPOINT, state)]);
}

/// So many deliveries to endpoints of third parties are tried again (`retry`), or given up (`dead`).
pub fn endpoints_not_taken(state: &'static str, count: u64) {
    ENDPOINTS_NOT_TAKEN.record(count, &[of(names::NOT_TAKEN, state)]);
}

/// A figure of an actor, and where it stands.
type Figure = (Metric, fn(&ActorFigures) -> u64);

/// Shows the actors, as `figures` tells them whenever the page is read.
pub fn observe_actors(figures: impl Fn() -> Vec<ActorFigures> + Clone + Send + Sync + 'static) {
    let gauges: [Figure; 5] = [
        (names::ACTOR_RUNNING, |actor| actor.running.into()),
        (names::ACTOR_WAITING, |actor| actor.waiting),
        (names::ACTOR_AT_WORK, |actor| actor.at_work),
        (names::ACTOR_CAPACITY, |actor| wide(actor.capacity)),
        (names::ACTOR_CONCURRENCY, |actor| wide(actor.concurrency)),
    ];
    for (metric, value) in gauges {
        let read = figures.clone();
        meter()
            .u64_observable_gauge(metric.name)
            .with_unit(metric.unit)
            .with_description(metric.about)
            .with_callback(move |gauge| {
                read().into_iter().for_each(|actor| gauge.observe(value(&actor), &[named(actor.name)]));
            })
            .build();
    }
    let counters: [Figure; 3] = [
        (names::ACTOR_RESTARTS, |actor| actor.restarts),
        (names::ACTOR_REFUSED, |actor| actor.refused),
        (names::ACTOR_FAILURES, |actor| actor.failures),
    ];
    for (metric, value) in counters {
        let read = figures.clone();
        meter()
            .u64_observable_counter(metric.name)
            .with_unit(metric.unit)
            .with_description(metric.about)
            .with_callback(move |counter| {
                read().into_iter().for_each(|actor| counter.observe(value(&actor), &[named(actor.name)]));
            })
            .build();
    }
}

fn named(actor: String) -> KeyValue {
    KeyValue::new(names::ACTOR.name, actor)
}

/// A gauge that is asked whenever the page is read.
fn observe(metric: &Metric, ask: impl Fn() -> Vec<(u64, Vec<KeyValue>)> + Send + Sync + 'static) {
    observe_on(meter(), metric, ask);
}

fn observe_on(
    meter: &Meter,
    metric: &Metric,
    ask: impl Fn() -> Vec<(u64, Vec<KeyValue>)> + Send + Sync + 'static,
) {
    meter
        .u64_observable_gauge(metric.name)
        .with_unit(metric.unit)
        .with_description(metric.about)
        .with_callback(move |gauge| ask().iter().for_each(|(value, labels)| gauge.observe(*value, labels)))
        .build();
}

/// Shows a pool, as `figures` tells it whenever the page is read; none once it is gone.
pub fn observe_pool(pool: &'static str, figures: impl Fn() -> Option<PoolFigures> + Send + Sync + 'static) {
    let figures = Arc::new(figures);
    let label = of(names::POOL, pool);
    super::POOL_TIMEOUTS.add(0, std::slice::from_ref(&label));
    let (read, named) = (Arc::clone(&figures), label.clone());
    observe(&names::POOL_CONNECTIONS, move || {
        let Some(figures) = read() else { return Vec::new() };
        let states = [("idle", figures.idle), ("used", figures.size.saturating_sub(figures.idle))];
        let with = |state| vec![named.clone(), of(names::CONNECTION, state)];
        states.into_iter().map(|(state, count)| (wide(count), with(state))).collect()
    });
    let one = |metric: &Metric, value: fn(&PoolFigures) -> usize| {
        let (read, label) = (Arc::clone(&figures), label.clone());
        observe(metric, move || {
            read().map(|figures| (wide(value(&figures)), vec![label.clone()])).into_iter().collect()
        });
    };
    one(&names::POOL_MAX, |figures| figures.max);
    one(&names::POOL_PENDING, |figures| figures.waiting);
}

/// Shows for how many seconds the certificates of each role of listeners are still valid.
pub fn observe_certificates(remaining: impl Fn() -> Vec<(&'static str, f64)> + Send + Sync + 'static) {
    meter()
        .f64_observable_gauge(names::CERTIFICATE.name)
        .with_unit(names::CERTIFICATE.unit)
        .with_description(names::CERTIFICATE.about)
        .with_callback(move |gauge| {
            remaining()
                .into_iter()
                .for_each(|(role, left)| gauge.observe(left, &[of(names::LISTENER, role)]));
        })
        .build();
}

/// Shows the bytes of the cache.
pub fn observe_cache(bytes: impl Fn() -> u64 + Send + Sync + 'static) {
    observe(&names::CACHE_SIZE, move || vec![(bytes(), Vec::new())]);
}

/// Shows how many sockets of peers are open, and how many other replicas of discovery are heard of.
pub fn observe_discovery(figures: impl Fn() -> (usize, usize) + Clone + Send + Sync + 'static) {
    let read = figures.clone();
    observe(&names::DISCOVERY_SOCKETS, move || vec![(wide(read().0), Vec::new())]);
    observe(&names::DISCOVERY_REPLICAS, move || vec![(wide(figures().1), Vec::new())]);
}

/// Shows the process itself.
pub(super) fn observe_process(meter: &Meter) {
    observe_on(meter, &names::PROCESS_MEMORY, || {
        resident().map(|bytes| (bytes, Vec::new())).into_iter().collect()
    });
    observe_on(meter, &names::PROCESS_FILES, || {
        let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
        files.map(|files| (wide(files), Vec::new())).into_iter().collect()
    });
    let begun = Instant::now();
    meter
        .f64_observable_gauge(names::PROCESS_UPTIME.name)
        .with_unit(names::PROCESS_UPTIME.unit)
        .with_description(names::PROCESS_UPTIME.about)
        .with_callback(move |gauge| gauge.observe(begun.elapsed().as_secs_f64(), &[]))
        .build();
}

/// Physical memory, in bytes (`proc_pid_status(5)`).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
