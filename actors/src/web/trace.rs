//! The trace of a request, as its headers have it. What hangs on it lives where requests are answered.

use actix_web::http::header::{HeaderMap, HeaderName};
use orrery_schemas::trace::TraceParent;

use crate::random::Random;

/// The header of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a client sent, if it is a `traceparent`.
pub fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// A valid `traceparent` is the parent of a new span; else a trace is begun.
pub fn of(headers: &HeaderMap, random: &Random) -> TraceParent {
    parent(headers).map_or_else(|| random.trace(), |parent| parent.child(random.span()))
}
