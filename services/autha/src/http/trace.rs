//! The trace of a request: the gateway's `traceparent`, or a new one, kept with the request for what is written because of it.

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use orrery_schemas::trace::TraceParent;

use super::Desk;

pub async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(desk) = request.app_data::<Data<Desk>>() {
        let parent = request
            .headers()
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<TraceParent>().ok());
        let trace = parent.map_or_else(|| desk.random.trace(), |parent| parent.child(desk.random.span()));
        request.extensions_mut().insert(trace);
    }
    next.call(request).await
}

/// The request's trace.
pub fn of(request: &HttpRequest, desk: &Desk) -> TraceParent {
    request.extensions().get::<TraceParent>().copied().unwrap_or_else(|| desk.random.trace())
}
