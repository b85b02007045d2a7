//! The trace of a request, as its headers have it, and its span. What hangs on it lives where requests are answered.

use std::time::Instant;

use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName},
    },
    middleware::Next,
};
use orrery_observability::{
    metrics, names,
    trace::{Kind, OUTSIDE, Place, Span, is_on},
};
use orrery_schemas::trace::TraceParent;
use orrery_supervise::random::Random;
use tracing::{Instrument, field::Empty};

use crate::problem::name_occurrence;

/// The headers of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What the trace's sender wants to be passed on.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a client sent, if it is a `traceparent`.
pub fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// A valid `traceparent` is the parent of a new span; else a trace is begun.
pub fn of(headers: &HeaderMap, random: &Random) -> TraceParent {
    parent(headers).map_or_else(|| random.trace(), |parent| parent.child(random.span()))
}

/// The span of a request that `service` answers, and its trace: that of the span where traces are sent, else as `of`. `route` is the pattern
/// that its path fits, never the path. Whoever asks from outside does not decide what is recorded. What runs in the span carries the `tracestate`, also
/// where no trace is sent.
pub fn begin(
    service: &'static str,
    method: &str,
    route: Option<&str>,
    headers: &HeaderMap,
    is_outside: bool,
    random: &Random,
) -> (TraceParent, Span) {
    if !is_on() && !headers.contains_key(&TRACESTATE) {
        return (of(headers, random), Span::none());
    }
    let method = names::method(method);
    let place = parent(headers).and_then(|parent| {
        // A list may stand in several fields, which is one more than any of ours sends.
        let state = headers.get(&TRACESTATE).and_then(|state| state.to_str().ok()).unwrap_or_default();
        Place::new(parent.to_string(), state)
    });
    let span = Span::below(Kind::Server, place.as_ref(), || match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    });
    if is_outside {
        // Before the span begins, which is when it is decided whether it is recorded.
        span.set(OUTSIDE, true);
    }
    let here = span.place().and_then(|place| place.parent.parse().ok());
    let Some(trace) = here else { return (of(headers, random), span) };
    span.set("orrery.service", service);
    span.set("http.request.method", method);
    if let Some(route) = route {
        span.set("http.route", route.to_owned());
    }
    (trace, span)
}

/// The head of the answer is there.
pub fn end(span: &Span, status: StatusCode) {
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail("server_error");
    }
}

/// Answers a request of `service`, and measures it: what is written because of it carries its trace, which stands in its extensions; so do the lines that are
/// logged meanwhile, and the problem that may be its answer. `is_outside` as in `begin`.
///
/// # Errors
/// Those of the service.
pub async fn answer(
    service: &'static str,
    random: &Random,
    is_outside: bool,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let (begun, method, route) = (Instant::now(), request.method().clone(), request.match_pattern());
    let logged = tracing::info_span!("request", trace = Empty);
    let (trace, span) = logged.in_scope(|| {
        begin(service, method.as_str(), route.as_deref(), request.headers(), is_outside, random)
    });
    logged.record("trace", trace.trace_id());
    request.extensions_mut().insert(trace);
    let answer = span.clone().run(next.call(request)).instrument(logged).await?.map_into_boxed_body();
    let status = answer.status();
    end(&span, status);
    span.within(|| {
        metrics::request(service, method.as_str(), route.as_deref(), status.as_u16(), begun.elapsed());
    });
    Ok(name_occurrence(answer, trace))
}
