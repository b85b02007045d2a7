//! Every metric with its name and unit, and the page that Prometheus reads. Labels come from closed sets: names of actors, handlers and
//! services, outcomes; never an account's, a partner's or a message's.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, MeterProvider},
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};

/// The registry that is shown, and the provider that fills it. Metrics belong to the process, as its log does.
static SHOWN: LazyLock<(Registry, Option<SdkMeterProvider>)> = LazyLock::new(|| {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    // A registry that is empty refuses nothing.
    let provider = exporter.ok().map(|exporter| SdkMeterProvider::builder().with_reader(exporter).build());
    (registry, provider)
});

static METER: LazyLock<Meter> = LazyLock::new(|| match &SHOWN.1 {
    Some(provider) => provider.meter("orrery"),
    None => opentelemetry::global::meter("orrery"),
});

/// Deliveries that were answered for, by handler and outcome.
static DELIVERIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("orrery.bus.deliveries")
        .with_description("Deliveries that were answered for, by handler and outcome (done, repeated, held, retry, dead, wait)")
        .build()
});

/// How long handlers took, in seconds.
static HANDLING: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    METER
        .f64_histogram("orrery.bus.handling")
        .with_unit("s")
        .with_description("How long a delivery was worked on")
        .with_boundaries(vec![0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
        .build()
});

/// Rows that the relay published, by producer and result.
static RELAYED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("orrery.outbox.relayed")
        .with_description(
            "Rows of the outbox that were published, by producer and result (sent, unrouted, refused, failed, again)",
        )
        .build()
});

/// Dead letters that were moved into their table, by handler.
static DEAD_LETTERS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("orrery.dead_letters.archived")
        .with_description("Dead letters that were moved into their table, by handler")
        .build()
});

/// Effects that may have happened without their mark, by handler.
static DOUBTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("orrery.inbox.doubts")
        .with_description("Tries after which nobody knows whether the effect happened, by handler")
        .build()
});

/// What one actor shows.
pub struct ActorFigures {
    /// Its name.
    pub name: String,
    /// Whether it is at work, and not between two lives.
    pub running: bool,
    /// Lives before this one.
    pub restarts: u64,
    /// What it has taken in and not finished.
    pub depth: u64,
}

/// A delivery was answered for after `took`.
pub fn delivered(handler: &'static str, outcome: &'static str, took: Duration) {
    DELIVERIES.add(1, &[KeyValue::new("handler", handler), KeyValue::new("outcome", outcome)]);
    HANDLING.record(took.as_secs_f64(), &[KeyValue::new("handler", handler)]);
}

/// Rows of `producer` were published with that result.
pub fn relayed(producer: &'static str, result: &'static str, rows: usize) {
    if rows > 0 {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        RELAYED.add(rows, &[KeyValue::new("producer", producer), KeyValue::new("result", result)]);
    }
}

/// A dead letter was moved into its table.
pub fn dead_letter(handler: &'static str) {
    DEAD_LETTERS.add(1, &[KeyValue::new("handler", handler)]);
}

/// Nobody knows whether an effect happened.
pub fn doubt(handler: &'static str) {
    DOUBTS.add(1, &[KeyValue::new("handler", handler)]);
}

/// Shows the actors, as `figures` tells them whenever the page is read.
pub fn observe_actors(figures: impl Fn() -> Vec<ActorFigures> + Clone + Send + Sync + 'static) {
    let of = |name: String| [KeyValue::new("actor", name)];
    let read = figures.clone();
    METER
        .u64_observable_gauge("orrery.actor.running")
        .with_description("Whether the actor is at work (1) or between two lives (0)")
        .with_callback(move |gauge| {
            read().into_iter().for_each(|actor| gauge.observe(u64::from(actor.running), &of(actor.name)));
        })
        .build();
    let read = figures.clone();
    METER
        .u64_observable_counter("orrery.actor.restarts")
        .with_description("Lives of the actor before this one")
        .with_callback(move |counter| {
            read().into_iter().for_each(|actor| counter.observe(actor.restarts, &of(actor.name)));
        })
        .build();
    METER
        .u64_observable_gauge("orrery.actor.mailbox")
        .with_description("What the actor has taken in and not finished")
        .with_callback(move |gauge| {
            figures().into_iter().for_each(|actor| gauge.observe(actor.depth, &of(actor.name)));
        })
        .build();
}

/// All metrics in Prometheus' text format.
///
/// # Errors
/// When they cannot be written as text.
pub fn page() -> Result<String, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&SHOWN.0.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_counted_with_its_unit() {
        delivered("maily.email", "done", Duration::from_millis(3));
        observe_actors(|| {
            vec![ActorFigures { name: "relay".to_owned(), running: true, restarts: 2, depth: 5 }]
        });
        let page = page().unwrap();
        for (name, label, value) in [
            ("orrery_bus_deliveries_total", "outcome=\"done\"", "1"),
            ("orrery_bus_handling_seconds_bucket", "le=\"0.005\"", "1"),
            ("orrery_actor_restarts_total", "actor=\"relay\"", "2"),
            ("orrery_actor_mailbox", "actor=\"relay\"", "5"),
        ] {
            let shown = page
                .lines()
                .any(|line| line.starts_with(name) && line.contains(label) && line.ends_with(value));
            assert!(shown, "{name} with {label} is not {value} in {page}");
        }
    }
}
