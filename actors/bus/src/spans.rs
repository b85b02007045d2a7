//! The spans of a message (OpenTelemetry's semantic conventions for RabbitMQ): one when it is sent, below what it tells of; one for each try to work
//! on it, below the one that sent it. So a request, what it brings about, and every retry are one tree. Work on many messages at once is a span of
//! its own that is linked to theirs.

use cloudevents::{AttributesReader, Event};
use orrery_observability::trace::{Kind, Place, Span, is_on};
use orrery_store::outbox::Row;

/// Begins the span of a row that is published, and has the message carry it. A row of no trace begins none.
pub(crate) fn sending(row: &mut Row) -> Span {
    if !is_on() {
        return Span::none();
    }
    let state = row.tracestate.as_deref().unwrap_or_default();
    let Some(from) = row.traceparent.clone().and_then(|parent| Place::new(parent, state)) else {
        return Span::none();
    };
    let to = match (row.exchange.as_str(), row.routing_key.as_str()) {
        ("", queue) => queue.to_owned(),
        (exchange, key) => format!("{exchange}:{key}"),
    };
    let span = Span::below(Kind::Producer, Some(&from), || format!("publish {to}"));
    if let Some(here) = span.place() {
        about(&span, "publish", "send", to);
        span.set("messaging.rabbitmq.destination.routing_key", row.routing_key.clone());
        span.set("messaging.message.id", row.id.to_string());
        row.traceparent = Some(here.parent);
    }
    span
}

/// Begins the span of a try.
pub(crate) fn working(handler: &'static str, event: &Event, attempt: i64) -> Span {
    // What was sent along is carried on, also where no span is made.
    if !is_on() && event.extension("tracestate").is_none() {
        return Span::none();
    }
    let text = |name| event.extension(name).map(ToString::to_string);
    let from =
        text("traceparent").and_then(|parent| Place::new(parent, &text("tracestate").unwrap_or_default()));
    let span = Span::below(Kind::Consumer, from.as_ref(), || format!("process {handler}"));
    about(&span, "process", "process", handler.to_owned());
    span.set("messaging.message.id", event.id().to_owned());
    span.set("orrery.attempt", attempt);
    span
}

/// Begins the span of a batch of rows that are published.
pub(crate) fn publishing(rows: &[Row]) -> Span {
    if !is_on() {
        return Span::none();
    }
    let places: Vec<_> = rows.iter().filter_map(|row| Place::new(row.traceparent.clone()?, "")).collect();
    batch(&places, rows.len(), || "publish batch".to_owned())
}

/// Begins the span of a statement for many messages of `handler`; `places` are those of them that are recorded.
pub(crate) fn batch(places: &[Place], messages: usize, name: impl FnOnce() -> String) -> Span {
    let span = Span::batch(places.iter(), name);
    span.set("messaging.system", "rabbitmq");
    span.set("messaging.batch.message_count", i64::try_from(messages).unwrap_or(i64::MAX));
    span
}

/// How a try ended.
pub(crate) fn worked(span: &Span, outcome: &'static str) {
    span.set("orrery.outcome", outcome);
    if matches!(outcome, "retry" | "dead") {
        span.fail(outcome);
    }
}

fn about(span: &Span, name: &'static str, ty: &'static str, destination: String) {
    span.set("messaging.system", "rabbitmq");
    span.set("messaging.operation.name", name);
    span.set("messaging.operation.type", ty);
    span.set("messaging.destination.name", destination);
}
