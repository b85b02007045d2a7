//! The trace of a request: the gateway's `traceparent`, or a new one. What is written because of the request carries it, the lines that are
//! logged meanwhile, and the problem that may be its answer.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use orrery_actors::web::{self, problem::name_occurrence};
use orrery_schemas::trace::TraceParent;
use tracing::Instrument;

use super::Desk;

pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(desk) = request.app_data::<Data<Desk>>() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let trace = web::trace::of(request.headers(), &desk.random);
    request.extensions_mut().insert(trace);
    let span = tracing::info_span!("request", trace = trace.trace_id());
    let answer = next.call(request).instrument(span).await?.map_into_boxed_body();
    Ok(name_occurrence(answer, trace))
}

/// The request's trace.
pub fn of(request: &HttpRequest, desk: &Desk) -> TraceParent {
    request.extensions().get::<TraceParent>().copied().unwrap_or_else(|| desk.random.trace())
}
