//! The trace of a request: the gateway's `traceparent`, or a new one. What is written because of the request carries it, the lines that are
//! logged meanwhile, and the problem that may be its answer.

use std::time::Instant;

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use orrery_observability::metrics;
use orrery_schemas::trace::TraceParent;
use orrery_web::{problem::name_occurrence, trace};
use tracing::{Instrument, field::Empty};

use super::AppState;

const SERVICE: &str = "autha";

pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(app) = request.app_data::<Data<AppState>>() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let (begun, method, route) = (Instant::now(), request.method().clone(), request.match_pattern());
    let logged = tracing::info_span!("request", trace = Empty);
    let (trace, span) = logged.in_scope(|| {
        trace::begin(SERVICE, method.as_str(), route.as_deref(), request.headers(), false, &app.random)
    });
    logged.record("trace", trace.trace_id());
    request.extensions_mut().insert(trace);
    let answer = span.clone().run(next.call(request)).instrument(logged).await?.map_into_boxed_body();
    let status = answer.status();
    trace::end(&span, status);
    metrics::request(SERVICE, method.as_str(), route.as_deref(), status.as_u16(), begun.elapsed());
    Ok(name_occurrence(answer, trace))
}

/// The request's trace.
pub fn of(request: &HttpRequest, app: &AppState) -> TraceParent {
    request.extensions().get::<TraceParent>().copied().unwrap_or_else(|| app.random.trace())
}
