//! What every request passes first and every answer last: the table's verdict, the caller's budget, CORS, hardening headers, one line at debug
//! that names no path.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    Error, HttpMessage, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, Uri,
        header::{self, HeaderValue},
        uri::PathAndQuery,
    },
    middleware::Next,
    web::Data,
};
use ipnet::IpNet;
use orrery_observability::{metrics, trace::Span};
use orrery_schemas::{
    problems::Code,
    routes::{Rate, Streaming},
    trace::TraceParent,
};
use orrery_supervise::random::Random;
use orrery_web::{
    drain::{Drain, end_connection},
    problem::Problem,
    trace,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    answer::BodyWithGuards,
    body::{ClientBody, Framing},
    challenges::Challenges,
    config::listener::Role,
    cors, end_to_end,
    forwarded::{self, Forwarded},
    limit::{self, Verdict},
    listen::{
        network::Prefixes,
        seat::{Busy, Peer, Seat},
    },
    live::{Current, Live},
    providers::{Call, Measured},
    proxy::Entered,
    routes::{Admitted, Refusal},
};

/// Requests that one connection may have at work: more is an abuse of HTTP/2.
const STREAMS: usize = 128;
/// Who answers, in metrics and traces.
const SERVICE: &str = "gateway";
/// Where the health of the process is told, whatever a listener calls it.
const READY: &str = "/health/ready";

/// A listener as its requests see it.
pub struct Entrance {
    /// What it is for.
    pub role: Role,
    /// Paths at which it tells whether the process is ready.
    pub health: Vec<String>,
    /// Networks of proxies whose forwarding headers are believed.
    pub trusted: Arc<[IpNet]>,
    /// What makes a network.
    pub prefixes: Prefixes,
    /// `Strict-Transport-Security`, if it is sent.
    pub hsts: Option<HeaderValue>,
    /// The gateway as it is configured now.
    pub current: Current,
    /// Requests at work in the process.
    pub places: Arc<Semaphore>,
    /// What ACME asks for.
    pub challenges: Challenges,
    /// Ids of traces.
    pub random: Random,
    /// The end of the process.
    pub drain: Drain,
}

/// What the first half found out, for the second.
struct Seen {
    trace: TraceParent,
    span: Span,
    /// What its path fits, also where it is refused.
    fits: Option<Admitted>,
    live: Arc<Live>,
    tls: bool,
    verdict: Option<Verdict>,
    permit: Option<OwnedSemaphorePermit>,
    /// What a service provider's limits and counts know of it.
    call: Option<Call>,
    pattern: Option<Admitted>,
}

/// The middleware around everything.
///
/// # Errors
/// None: errors become problem documents here.
pub async fn edge(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let Some(entrance) = request.app_data::<Data<Entrance>>().cloned() else {
        return Ok(request.into_response(HttpResponse::InternalServerError().finish()));
    };
    let seat = request.conn_data::<Rc<Seat>>().cloned();
    let busy = seat.as_ref().map(Busy::new);
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut seen = Seen {
        trace: trace::of(request.headers(), &entrance.random),
        span: Span::none(),
        fits: None,
        live: entrance.current.get(),
        tls: seat.as_ref().is_some_and(|seat| seat.tls),
        verdict: None,
        permit: None,
        call: None,
        pattern: None,
    };
    let response = match entrance.enter(&mut request, seat.as_deref(), &mut seen).await {
        Ok(()) => {
            let answer = seen.span.clone().run(next.call(request)).await?.map_into_boxed_body();
            orrery_web::problem::name_occurrence(answer, seen.trace)
        }
        Err(response) => {
            // Kept until the answer is sent, see `ClientBody`; nobody reads it.
            let payload = request.take_payload();
            let unread = ClientBody::new(payload, Framing::None, 0, Duration::ZERO, Duration::ZERO);
            let response = response.map_body(|_, body| BodyWithGuards::new(body, Some(unread), None).boxed());
            request.into_response(response)
        }
    };
    let (permit, call, is_head) = (seen.permit.take(), seen.call.take(), method == Method::HEAD);
    let mut response = response.map_body(|head, body| {
        let body = match call {
            Some(call) => Measured::new(body, head.status, is_head, call).boxed(),
            None => body,
        };
        BodyWithGuards::new(body, None, busy.map(|busy| (busy, permit))).boxed()
    });
    if entrance.drain.is_begun() {
        end_connection(&mut response);
    }
    let foreign = seen.pattern.as_ref().is_some_and(|admitted| admitted.rule.foreign);
    let answer = response.headers_mut();
    end_to_end::harden(answer, foreign);
    if let Ok(id) = HeaderValue::from_str(&seen.trace.trace_id().to_string()) {
        answer.insert(end_to_end::REQUEST_ID, id);
    }
    if let Some(hsts) = entrance.hsts.as_ref().filter(|_| seen.tls) {
        answer.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if let Some(verdict) = seen.verdict {
        verdict.write(answer);
    }
    if !foreign {
        end_to_end::rebase(answer, &seen.live.config.base_path);
        cors::permit(&seen.live.config.cors, origin.as_ref(), answer);
    }
    trace::end(&seen.span, response.status());
    let route = seen.fits.as_ref().map(|admitted| admitted.rule.pattern.as_str());
    seen.span.within(|| {
        metrics::request(SERVICE, method.as_str(), route, response.status().as_u16(), begun.elapsed());
    });
    tracing::debug!(
        method = method.as_str(),
        route = seen.pattern.as_ref().map_or("-", |admitted| admitted.rule.pattern.as_str()),
        status = response.status().as_u16(),
        ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
    Ok(response)
}

impl Entrance {
    /// Lets a request in, or answers it.
    async fn enter(
        &self,
        request: &mut ServiceRequest,
        seat: Option<&Seat>,
        seen: &mut Seen,
    ) -> Result<(), HttpResponse> {
        let trace = seen.trace;
        let refuse = |problem: Problem| problem.within(trace).error_response();
        if seat.is_some_and(|seat| seat.requests() > STREAMS) {
            metrics::shed("connection");
            return Err(refuse(Problem::new(
                Code::Unavailable,
                "too many requests at once on one connection",
            )));
        }
        let live = Arc::clone(&seen.live);
        let host = forwarded::host(request.head())
            .ok_or_else(|| refuse(Problem::new(Code::Malformed, "the host cannot be read")))?;
        let peer = seat.map(|seat| seat.peer);
        let client = peer.map(|peer| self.client(peer, request.headers()));
        let path = request.uri().path();
        if let Some(answer) = self.challenges.answer(path) {
            return Err(HttpResponse::Ok().content_type("application/octet-stream").body(answer));
        }
        if self.health.iter().any(|alias| alias == path) {
            rename(request, READY);
            return Ok(());
        }
        let path = rebased(path, &live.config.base_path);
        let decided = live.table(self.role).admit(request.method(), forwarded::bare_host(&host), path);
        seen.fits = decided.as_ref().ok().cloned();
        let route = seen.fits.as_ref().map(|admitted| admitted.rule.pattern.as_str());
        let method = request.method().as_str();
        let is_outside = peer.is_none_or(|peer| !peer.trusted);
        let (trace, span) = trace::begin(SERVICE, method, route, request.headers(), is_outside, &self.random);
        (seen.trace, seen.span) = (trace, span);
        let refuse = |problem: Problem| problem.within(trace).error_response();
        // What is refused is taken from the caller's reads: guessing paths is no way around limits.
        let rate = decided.as_ref().map_or(Rate::Read, |admitted| admitted.rule.rate);
        if let Some(client) = client {
            seen.verdict = live.limiter.take(rate, client.network).await;
        }
        if let Some(verdict) = seen.verdict.filter(|verdict| !verdict.allowed()) {
            metrics::limited(limit::name(rate));
            let problem = Problem::new(
                Code::TooManyRequests,
                "too many requests of this kind; wait as long as Retry-After says",
            );
            return Err(refuse(problem.retry_after(verdict.retry_after_seconds())));
        }
        let admitted = match decided {
            Ok(admitted) => admitted,
            Err(Refusal::Method(allow))
                if *request.method() == Method::OPTIONS && cors::is_preflight(request.headers()) =>
            {
                return Err(cors::preflight(&live.config.cors, request.headers(), &allow));
            }
            Err(refusal) => return Err(refusal_of(&refusal, trace)),
        };
        if admitted.rule.streaming == Streaming::No && admitted.rule.rate != Rate::Unlimited {
            // Better a quick no than a slow yes for everybody.
            let place = Arc::clone(&self.places).try_acquire_owned();
            seen.permit = Some(place.map_err(|_| {
                metrics::shed("process");
                refuse(Problem::new(
                    Code::Unavailable,
                    "too much is going on right now; try again in a second",
                ))
            })?);
        }
        if let Some(provider) = live.provider(&admitted) {
            let announced = request.headers().get(header::CONTENT_LENGTH);
            let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
            seen.call = Some(provider.admit(announced).map_err(|refused| {
                metrics::shed("provider");
                refuse(refused.problem())
            })?);
        }
        let address = client.and_then(|client| client.address);
        let forwarded = Forwarded::new(request.headers(), peer, address, seen.tls, host, trace);
        seen.pattern = Some(admitted.clone());
        request.extensions_mut().insert(Entered { admitted, live, trace, forwarded });
        Ok(())
    }

    /// For whom a trusted proxy asks, or who asks.
    fn client(&self, peer: Peer, headers: &header::HeaderMap) -> Peer {
        if !peer.trusted {
            return peer;
        }
        let Some(address) = forwarded::client_address(headers, &self.trusted) else { return peer };
        Peer { address: Some(address), network: self.prefixes.network(address), trusted: false }
    }
}

/// The path below the one that the outside sees before it.
fn rebased<'a>(path: &'a str, base: &str) -> &'a str {
    match path.strip_prefix(base) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Lets the application see another path.
fn rename(request: &mut ServiceRequest, path: &'static str) {
    let mut parts = request.head().uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    if let Ok(uri) = Uri::from_parts(parts) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

fn refusal_of(refusal: &Refusal, trace: TraceParent) -> HttpResponse {
    let problem = match refusal {
        Refusal::Malformed => Problem::new(Code::Malformed, "the path cannot be read; spell it plainly"),
        Refusal::NotFound => Problem::new(Code::NotFound, "nothing is at this path"),
        Refusal::Method(allow) => Problem::new(Code::MethodNotAllowed, format!("this path takes {allow}")),
    };
    let mut response = problem.within(trace).error_response();
    if let Refusal::Method(allow) = refusal
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
