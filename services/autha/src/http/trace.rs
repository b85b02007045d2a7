//! The trace of a request: the gateway's `traceparent`, or a new one. What is written because of the request carries it, the lines that are
//! logged meanwhile, and the problem that may be its answer.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use orrery_schemas::trace::TraceParent;

use super::AppState;

pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(app) = request.app_data::<Data<AppState>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    orrery_web::trace::answer("autha", &app.random, false, request, next).await
}

/// The request's trace.
pub fn of(request: &HttpRequest, app: &AppState) -> TraceParent {
    request.extensions().get::<TraceParent>().copied().unwrap_or_else(|| app.random.trace())
}
