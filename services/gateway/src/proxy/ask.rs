//! Asks the replicas of a pool, one after the other while nothing was handled, and passes the answer down.

use std::sync::Arc;

use actix_web::{
    HttpMessage, HttpResponse,
    body::{self, BodySize, MessageBody, SizedStream},
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderMap, HeaderValue},
    },
};
use awc::ClientResponse;
use orrery_observability::trace::{Kind, Span};
use orrery_schemas::routes::Streaming;
use orrery_web::{problem::Problem, trace};
use tokio::time::{Duration, Instant, sleep};

use super::{
    Asked, Entered, Proxy,
    failure::{Failure, problem},
    in_turn, target,
};
use crate::{
    answer::{Answer, Untold},
    body::Framing,
    end_to_end,
    upstream::{Endpoint, Outstanding, Pool, Unavailable},
};

/// For how long a request that no replica got is tried again, beside the time that one connection may take: a restart fits into it, and a second
/// connection where the first was not taken because the replica's queue of connections was full for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two rounds over all replicas.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer without an end may be silent.
const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);

/// The span of one try at a replica, which gets the request within it.
fn calling(method: &Method, tried: usize, headers: &mut HeaderMap) -> Span {
    let span = Span::new(Kind::Client, || method.to_string());
    if let Some(place) = span.place() {
        span.set("http.request.method", method.to_string());
        if tried > 0 {
            span.set("http.request.resend_count", i64::try_from(tried).unwrap_or(i64::MAX));
        }
        if let Ok(value) = HeaderValue::from_str(&place.parent) {
            headers.insert(trace::TRACEPARENT, value);
        }
    }
    span
}

impl Proxy {
    pub(super) async fn ask(
        &self,
        pool: &Pool,
        asked: Asked<'_>,
    ) -> Result<(ClientResponse, Outstanding), Problem> {
        let Asked { request, method, headers, entered, framing, body } = asked;
        let failed = |failure: &Failure| problem(failure, entered);
        if framing != Framing::None {
            body.begin().await.map_err(|fault| failed(&Failure::Client(fault)))?;
        }
        let mut headers = end_to_end::for_upstream(headers, entered.trace);
        entered.forwarded.write(&mut headers, entered.admitted.rule.foreign);
        let target = target(request, entered);
        let mut repeatable = matches!(*method, Method::GET | Method::HEAD);
        let until = Instant::now() + PATIENCE + self.connect;
        let (mut tried, mut last) = (Vec::new(), Failure::Refused);
        pool.budget.earn();
        loop {
            let outstanding = match pool.pick(&tried) {
                Ok(outstanding) => outstanding,
                Err(Unavailable::Full) => return Err(failed(&Failure::Full)),
                Err(Unavailable::None) if Instant::now() < until => {
                    sleep(PAUSE).await;
                    tried.clear();
                    continue;
                }
                Err(Unavailable::None) => return Err(failed(&last)),
            };
            let endpoint = Arc::clone(outstanding.endpoint());
            self.host(&mut headers, &endpoint, entered);
            let span = calling(method, tried.len(), &mut headers);
            let sending = self.send(method, &endpoint, &target, headers.clone(), asked);
            match span.clone().run(sending).await {
                Ok(response) => {
                    trace::end(&span, response.status());
                    // A replica that answers by its own faults alone is an outlier.
                    match response.status().as_u16() {
                        500 | 502 | 504 => endpoint.failed(),
                        _ => endpoint.succeeded(),
                    }
                    return Ok((response, outstanding));
                }
                Err(failure) => last = failure,
            }
            span.fail("no_answer");
            match last {
                Failure::Refused => endpoint.eject(),
                Failure::Broken | Failure::Late => endpoint.failed(),
                Failure::Full | Failure::Client(_) | Failure::Left => {}
            }
            tried.push(endpoint.id);
            let again = match last {
                // It was not sent.
                Failure::Refused => !body.started(),
                // It may have been handled, which only changes nothing where it reads; and once is enough.
                Failure::Broken => std::mem::take(&mut repeatable) && !body.started() && pool.budget.spend(),
                Failure::Late | Failure::Full | Failure::Client(_) | Failure::Left => false,
            };
            if !again {
                return Err(failed(&last));
            }
        }
    }

    /// Makes a replica known to the worker's client, and sets the `Host` that it gets.
    pub(super) fn host(&self, headers: &mut HeaderMap, endpoint: &Arc<Endpoint>, entered: &Entered) {
        self.dial.show(endpoint);
        let rule = &entered.admitted.rule;
        let clients = entered.forwarded.host_value().filter(|_| rule.keep_host && rule.foreign);
        let host = clients.or_else(|| HeaderValue::from_str(&endpoint.authority).ok());
        if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
    }

    async fn send(
        &self,
        method: &Method,
        endpoint: &Endpoint,
        target: &str,
        headers: HeaderMap,
        asked: Asked<'_>,
    ) -> Result<ClientResponse, Failure> {
        let body = asked.body;
        let url = format!("http://{}{target}", endpoint.host());
        let mut request = self.client.request(method.clone(), url).no_decompress();
        *request.headers_mut() = headers;
        let sending = match asked.framing {
            Framing::None => request.send_body(body::None::new()),
            Framing::Sized(0) => request.send_body(bytes::Bytes::new()),
            Framing::Sized(bytes) => request.send_body(SizedStream::new(bytes, body.clone())),
            Framing::Chunked => request.send_stream(body.clone()),
        };
        let sent = in_turn(asked, sending).await?;
        match sent {
            Ok(response) if sound(method, &response) => Ok(response),
            Ok(_) => Err(Failure::Broken),
            Err(error) => Err(body.fault().map_or_else(|| Failure::of(&error), Failure::Client)),
        }
    }
}

pub(super) fn pass_down(
    asked: Asked<'_>,
    response: ClientResponse,
    outstanding: Outstanding,
) -> HttpResponse {
    let rule = &asked.entered.admitted.rule;
    let status = response.status();
    let headers = end_to_end::for_client(response.headers());
    let bytes = length(&response);
    let body = if *asked.method == Method::HEAD {
        Untold(bytes.map_or(BodySize::None, BodySize::Sized)).boxed()
    } else if bodyless(status) {
        // awc would wait for the body that a 304's Content-Length speaks of.
        drop(response);
        Untold(BodySize::None).boxed()
    } else {
        let chunked = response.chunked().unwrap_or(false);
        let bytes = if chunked { None } else { Some(bytes.unwrap_or(0)) };
        let pause = if rule.streaming == Streaming::No { rule.silence } else { ENDLESS };
        Answer::new(response, bytes, pause, outstanding).boxed()
    };
    let mut down = HttpResponse::with_body(status, body);
    *down.headers_mut() = headers;
    down
}

fn bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn length(response: &ClientResponse) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether the answer is final and tells its length; an HTTP/1.0 body that ends with its connection could be cut.
fn sound(method: &Method, response: &ClientResponse) -> bool {
    let status = response.status();
    let told = response.version() == Version::HTTP_11 || length(response).is_some();
    !status.is_informational() && (told || *method == Method::HEAD || bodyless(status))
}
