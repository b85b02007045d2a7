//! What every request passes first and every answer last: the table's verdict, hardening headers, one line at debug that
//! names no path.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header,
    middleware::Next,
    web::Data,
};
use orrery_actors::web::problem::Problem;
use orrery_schemas::{problems::Code, trace::TraceParent};

use crate::{
    answer::Held,
    body::{ClientBody, Framing},
    headers,
    patience::{Busy, Seat},
    proxy::Proxy,
    routes::{self, Refusal},
};

/// The middleware around everything.
///
/// # Errors
/// None: errors become problem documents here.
pub async fn edge(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let busy = request.conn_data::<Rc<Seat>>().map(Busy::new);
    let method = request.method().clone();
    let (pattern, response) = match routes::admit(&method, request.uri().path()) {
        Ok(admitted) => {
            let pattern = admitted.route.pattern;
            request.extensions_mut().insert(admitted);
            (pattern, next.call(request).await?.map_into_boxed_body())
        }
        Err(refusal) => {
            // Kept until the answer is sent, see `ClientBody`; nobody reads it.
            let payload = request.take_payload();
            let unread = ClientBody::new(payload, Framing::None, 0, Duration::ZERO, Duration::ZERO);
            let trace = request.app_data::<Data<Proxy>>().map(|proxy| proxy.trace(request.headers()));
            let response =
                refuse(&refusal, trace).map_body(|_, body| Held::new(body, Some(unread), None).boxed());
            ("-", request.into_response(response))
        }
    };
    let mut response = response.map_body(|_, body| Held::new(body, None, busy).boxed());
    headers::harden(response.headers_mut());
    tracing::debug!(
        method = method.as_str(),
        route = pattern,
        status = response.status().as_u16(),
        ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
    Ok(response)
}

fn refuse(refusal: &Refusal, trace: Option<TraceParent>) -> actix_web::HttpResponse {
    let problem = match refusal {
        Refusal::Malformed => Problem::new(Code::Malformed, "the path cannot be read; spell it plainly"),
        Refusal::NotFound => Problem::new(Code::NotFound, "nothing is at this path"),
        Refusal::Method(allow) => Problem::new(Code::MethodNotAllowed, format!("this path takes {allow}")),
    };
    let mut response = problem.within(trace).error_response();
    if let Refusal::Method(allow) = refusal
        && let Ok(allow) = header::HeaderValue::from_str(allow)
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
