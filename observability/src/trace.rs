//! Spans of what crosses processes: requests, messages, statements, calls. They are made here and nowhere else, so that no library's span
//! and no field of a log line gets into a trace. Where no trace is sent, nothing is made.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions (<https://opentelemetry.io/docs/specs/semconv/>).

mod carried;

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context, Key, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use self::carried::Carried;

/// The target by which the layer that exports knows our spans.
pub(crate) const TARGET: &str = "otel";
/// The scope of what we tell.
pub(crate) const SCOPE: &str = "orrery";
/// The attribute of a request that came from outside: what its sender says is not believed.
pub const OUTSIDE: &str = "orrery.outside";
/// Characters of a `tracestate` that are passed on; W3C asks for 512 at least.
const STATE_CHARS: usize = 512;

/// The most links of one span; the messages of a batch can be more.
pub(crate) const LINKS: usize = 64;

/// Turned on when spans are sent.
static ON: AtomicBool = AtomicBool::new(false);

/// Spans are sent from now on.
pub(crate) fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// What a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that is answered here.
    Server,
    /// A call of another system.
    Client,
    /// A message that is sent.
    Producer,
    /// A message that is worked on.
    Consumer,
    /// Work of our own.
    Internal,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Internal => "internal",
        }
    }
}

/// A span, or nothing where no trace is sent. It ends when it and all that runs in it are dropped.
#[derive(Debug, Clone)]
pub struct Span(tracing::Span, Carried);

/// A place in a trace, as W3C Trace Context writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`; empty where there is none.
    pub state: String,
}

/// Whether spans are made at all.
#[must_use]
pub fn is_on() -> bool {
    // Not asked of `tracing`: what `enabled!` finds out stays in the state of the layers, and the next line of the log would be judged by it.
    ON.load(Ordering::Relaxed)
}

/// Whether what the caller runs in is recorded: for spans that would tell nothing alone.
#[must_use]
pub fn is_recorded() -> bool {
    is_on() && Context::map_current(|context| context.span().span_context().is_sampled())
}

impl Span {
    /// A span below the one that the caller runs in. `name` is only asked where it is needed.
    pub fn new(kind: Kind, name: impl FnOnce() -> String) -> Self {
        if !is_on() {
            return Self::none();
        }
        let name = name();
        let span =
            tracing::info_span!(target: TARGET, "span", otel.name = name.as_str(), otel.kind = kind.name());
        Self(span, Carried::default())
    }

    /// A span below one of another process, or as `new` where there is none. It is made within the span of the log that it belongs to: who goes on
    /// elsewhere takes the innermost span along, and the lines that are logged there are to be known by both. Also where no span is made, what
    /// runs in it carries that process's `tracestate`.
    pub fn below(kind: Kind, place: Option<&Place>, name: impl FnOnce() -> String) -> Self {
        let Self(mut span, _) = Self::new(kind, name);
        if let Some(remote) = place.and_then(Place::context)
            && !span.is_disabled()
            && span.set_parent(Context::new().with_remote_span_context(remote)).is_err()
        {
            // Where nothing is recorded, there is nothing to tell.
            span = tracing::Span::none();
        }
        Self(span, Carried::of(place))
    }

    /// The span of work on many messages at once, which is below none of them and linked to those that are recorded, the first [`LINKS`] of
    /// them. It is recorded where one of them is; where none is, there is no span.
    pub fn batch<'a>(messages: impl Iterator<Item = &'a Place>, name: impl FnOnce() -> String) -> Self {
        if !is_on() {
            return Self::none();
        }
        let mut recorded =
            messages.filter_map(Place::context).filter(SpanContext::is_sampled).take(LINKS).peekable();
        if recorded.peek().is_none() {
            return Self::none();
        }
        let span = Self::new(Kind::Internal, name);
        // Before the span begins, which is when it is decided whether it is recorded.
        recorded.for_each(|message| span.0.add_link(message));
        span
    }

    /// No span.
    #[must_use]
    pub fn none() -> Self {
        Self(tracing::Span::none(), Carried::default())
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if !self.0.is_disabled() {
            self.0.set_attribute(Key::from_static_str(key), value);
        }
    }

    /// The same, as part of making the span.
    #[must_use]
    pub fn with(self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// What it stands for failed; `kind` is one of a few words, never a text of somebody else's.
    pub fn fail(&self, kind: &'static str) {
        if !self.0.is_disabled() {
            self.0.set_attribute("error.type", kind);
            self.0.set_status(Status::error(""));
        }
    }

    /// Where it is, for who is told of it; none where no trace is sent.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        if self.0.is_disabled() {
            return None;
        }
        Place::of(self.0.context().span().span_context())
    }

    /// Runs a future in it.
    pub fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        self.1.or_current().within(future).instrument(self.0)
    }

    /// Runs what is told of its work after it in it, so that a metric is known by its trace.
    pub fn within<T>(&self, tell: impl FnOnce() -> T) -> T {
        self.0.in_scope(tell)
    }
}

impl Place {
    /// What was received; none where it is no `traceparent`. A `tracestate` that is too long or no list is left out.
    #[must_use]
    pub fn new(parent: String, state: &str) -> Option<Self> {
        let mut place = Self { parent, state: String::new() };
        place.context()?;
        if state.len() <= STATE_CHARS && state.is_ascii() && state.parse::<TraceState>().is_ok() {
            state.clone_into(&mut place.state);
        }
        Some(place)
    }

    /// Where the caller runs; none where no trace is sent.
    #[must_use]
    pub fn current() -> Option<Self> {
        if !is_on() {
            return None;
        }
        // Not by the current span of `tracing`: that may be one of the log.
        Context::map_current(|context| Self::of(context.span().span_context()))
    }

    /// Where the caller runs if that is recorded.
    #[must_use]
    pub fn recorded() -> Option<Self> {
        if is_recorded() { Self::current() } else { None }
    }

    /// The `tracestate` of the trace with this id where the caller runs in it, also where no trace is sent.
    #[must_use]
    pub fn state_of(trace: &str) -> Option<String> {
        let place = Self::current().or_else(|| Carried::current().place())?;
        let is_same = place.parent.split('-').nth(1) == Some(trace);
        (is_same && !place.state.is_empty()).then_some(place.state)
    }

    fn of(context: &SpanContext) -> Option<Self> {
        let parent =
            format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), u8::from(context.is_sampled()));
        context.is_valid().then(|| Self { parent, state: context.trace_state().header() })
    }

    fn context(&self) -> Option<SpanContext> {
        let mut parts = self.parent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || trace.len() != 32 || span.len() != 16 || parts.next().is_some() {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let context = SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(span).ok()?,
            if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
            true,
            self.state.parse().unwrap_or_default(),
        );
        context.is_valid().then_some(context)
    }
}

/// The trace and the span that the caller runs in, if they are recorded.
pub(crate) fn recorded() -> Option<(TraceId, SpanId)> {
    if !is_on() {
        return None;
    }
    Context::map_current(|context| ids(context.span().span_context()))
}

/// Those of a `traceparent` that is recorded.
pub(crate) fn recorded_of(parent: &str) -> Option<(TraceId, SpanId)> {
    if !is_on() {
        return None;
    }
    let place = Place { parent: parent.to_owned(), state: String::new() };
    place.context().as_ref().and_then(ids)
}

fn ids(context: &SpanContext) -> Option<(TraceId, SpanId)> {
    context.is_sampled().then(|| (context.trace_id(), context.span_id()))
}

/// Runs a future in the spans of who calls this, wherever it is spawned.
pub fn in_current<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Carried::current().within(future).in_current_span()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place = Place::new(text.to_owned(), "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7").unwrap();
        assert_eq!(Place::of(&place.context().unwrap()), Some(place));
        assert_eq!(Place::new("00-0-0-01".to_owned(), ""), None);
        let long = format!("a={}", "b".repeat(600));
        assert_eq!(Place::new(text.to_owned(), &long).unwrap().state, "");
        assert_eq!(Place::new(text.to_owned(), "nonsense").unwrap().state, "");
    }

    #[test]
    fn without_telemetry_no_span_is_made() {
        let span = Span::new(Kind::Client, || unreachable!("the name of a span that nobody sends"));
        assert!(span.place().is_none() && Place::current().is_none());
        let place = Place::new(format!("00-{TRACE}-00f067aa0ba902b7-01"), "").unwrap();
        let batch = Span::batch([&place].into_iter(), || unreachable!("nor that of a batch"));
        assert!(batch.place().is_none());
    }

    #[tokio::test]
    async fn without_telemetry_a_tracestate_is_carried_into_what_is_spawned() {
        let place = Place::new(format!("00-{TRACE}-00f067aa0ba902b7-00"), "a=b").unwrap();
        let span = Span::below(Kind::Server, Some(&place), || unreachable!("the name of a span"));
        let within = async {
            let call = Span::new(Kind::Client, || unreachable!("the name of a call"));
            let spawned = tokio::spawn(in_current(async { Place::state_of(TRACE) }));
            let other = Place::state_of("0af7651916cd43dd8448eb211c80319c");
            (call.run(async { Place::state_of(TRACE) }).await, spawned.await.unwrap(), other)
        };
        let (called, spawned, other) = span.run(within).await;
        assert_eq!((called.as_deref(), spawned.as_deref(), other), (Some("a=b"), Some("a=b"), None));
        assert_eq!(Place::state_of(TRACE), None);
    }
}
