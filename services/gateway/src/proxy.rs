//! Passes an admitted request to what answers it and the answer back, both as streams. Which requests are admitted lives in
//! `routes`, which replica is next in `upstream`.

use std::{
    collections::HashMap,
    future::{pending, poll_fn},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::{self, BodySize, MessageBody, SizedStream},
    dev::Payload,
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderMap, HeaderValue},
    },
    web,
};
use awc::{
    Client, ClientResponse, Connector,
    error::{ConnectError, SendRequestError},
};
use orrery_observability::{
    metrics,
    trace::{Kind, Span},
};
use orrery_schemas::{problems::Code, routes::Streaming, trace::TraceParent};
use orrery_web::{problem::Problem, trace};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use crate::{
    answer::{Answer, BodyWithGuards, Untold},
    assets::Assets,
    body::{ClientBody, Fault, Framing},
    cache::{Cache, Found},
    config::Config,
    headers::{self, Forwarded},
    listen::seat::Seat,
    live::{Backend, Live},
    local::{Instance, LocalError},
    routes::{Admitted, Target},
    served::{Served, Way},
    tunnel,
    upstream::{Dial, Endpoint, Outstanding, Pool, Tls, Unavailable},
    verify::Verifier,
};

/// For how long a request that no replica got is tried again, beside the time that one connection may take: a restart fits into it, and a second
/// connection where the first was not taken because the replica's queue of connections was full for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two rounds over all replicas.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection is not used again after this pause: below the 5 s after which an actix upstream closes it, since a
/// request that meets the close is lost, and only some may be sent twice.
const KEEP: Duration = Duration::from_secs(2);
/// How long a read of ours may take, and how much it may bring.
const READ: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 256 * 1024;
/// How long an answer without an end may be silent.
const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);

/// A worker's way to what answers.
pub struct Proxy {
    client: Client,
    dial: Dial,
    tls: Option<Tls>,
    connect: Duration,
    instances: HashMap<&'static str, Instance>,
    assets: Option<Assets>,
    cache: Option<Cache>,
}

/// What the edge found out of a request, for whoever passes it on.
#[derive(Clone)]
pub struct Entered {
    /// Where it goes, and what holds for it.
    pub admitted: Admitted,
    /// The settings that it began with.
    pub live: Arc<Live>,
    /// Its trace.
    pub trace: TraceParent,
    /// How the client reached us.
    pub forwarded: Forwarded,
}

/// Why a try brought no answer.
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    Refused,
    /// Every replica has as much at work as it may.
    Full,
    /// A connection, and then no answer that makes sense.
    Broken,
    /// No answer in time.
    Late,
    /// The client's own body failed.
    Client(Fault),
    /// The client went away, and nobody waits for an answer.
    Left,
}

/// A request that was let in, and its body.
#[derive(Clone, Copy)]
struct Asked<'a> {
    request: &'a HttpRequest,
    method: &'a Method,
    headers: &'a HeaderMap,
    entered: &'a Entered,
    framing: Framing,
    body: &'a ClientBody,
}

impl Proxy {
    /// A proxy for the worker that calls this; its connections belong to that thread.
    pub fn new(
        config: &Config,
        served: &[Served],
        tls: Option<Tls>,
        assets: Option<Assets>,
        cache: Option<Cache>,
    ) -> Self {
        let dial = Dial::new(tls.clone(), config.connect_timeout);
        let connector = Connector::new()
            .connector(dial.clone())
            .timeout(config.connect_timeout)
            .conn_keep_alive(KEEP)
            .limit(config.connections);
        // No timeout of awc's: it would count the time in which a client sends its picture.
        let client = Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish();
        let instance = |service: &Served| match &service.way {
            Way::Local(local) => Some((service.name, Instance::new(local.clone()))),
            Way::Upstreams(_) => None,
        };
        let instances = served.iter().filter_map(instance).collect();
        Self { client, dial, tls, connect: config.connect_timeout, instances, assets, cache }
    }
}

/// `/auth/verify`.
pub async fn verify(
    request: HttpRequest,
    proxy: web::Data<Proxy>,
    verifier: web::Data<Verifier>,
) -> Result<HttpResponse, Problem> {
    let entered = request.extensions().get::<Entered>().cloned();
    let entered = entered.ok_or_else(|| Problem::new(Code::NotFound, "nothing is at this path"))?;
    let (proxy, asked) = (&proxy, &request);
    verifier.answer(asked, || proxy.read(asked, &entered.live, "autha", "/.well-known/jwks.json")).await
}

/// The handler of everything that the gateway does not answer itself.
pub async fn forward(request: HttpRequest, payload: web::Payload, proxy: web::Data<Proxy>) -> HttpResponse {
    let entered = request.extensions().get::<Entered>().cloned();
    let Some(entered) = entered else {
        return Problem::new(Code::NotFound, "nothing is at this path").error_response();
    };
    let trace = entered.trace;
    let outcome = proxy.forwarded(&request, payload, &entered).await;
    outcome.unwrap_or_else(|problem| {
        let problem = problem.within(trace);
        if problem.status_code().is_server_error() {
            warn!(%problem, trace = trace.trace_id(), "a request was not answered by its service");
        }
        problem.error_response()
    })
}

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
    async fn forwarded(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        entered: &Entered,
    ) -> Result<HttpResponse, Problem> {
        let rule = &entered.admitted.rule;
        let backend = match rule.target {
            Target::Backend(place) => entered.live.backends.get(place),
            Target::Here => None,
        };
        let backend = backend.ok_or_else(|| Problem::new(Code::NotFound, "nothing is at this path"))?;
        if rule.streaming == Streaming::WebSocket && tunnel::is_upgrade(request) {
            return self.upgraded(request, payload, entered, backend).await;
        }
        let framing = Framing::of(request);
        let pause = entered.live.config.body_timeout;
        let body = ClientBody::new(
            payload.into_inner(),
            framing.unwrap_or(Framing::None),
            rule.most_bytes,
            pause,
            rule.whole,
        );
        let outcome = match framing {
            None => Err(Problem::new(Code::Malformed, "the request's length cannot be read")),
            Some(Framing::Sized(bytes)) if bytes > rule.most_bytes => Err(too_large(rule.most_bytes)),
            Some(framing) => {
                let (method, headers) = (request.method(), request.headers());
                let asked = Asked { request, method, headers, entered, framing, body: &body };
                match self.cache.as_ref().filter(|_| may_be_kept(asked)) {
                    Some(cache) => self.cached(cache, backend, asked).await,
                    None => self.answer(backend, asked).await,
                }
            }
        };
        let response = outcome.unwrap_or_else(|problem| {
            let problem = problem.within(entered.trace);
            if problem.status_code().is_server_error() {
                warn!(%problem, trace = entered.trace.trace_id(), "a request was not answered by its service");
            }
            problem.error_response()
        });
        Ok(response.map_body(|_, inner| BodyWithGuards::new(inner, Some(body), None).boxed()))
    }

    async fn answer(&self, backend: &Backend, asked: Asked<'_>) -> Result<HttpResponse, Problem> {
        match backend {
            Backend::Pool(pool) => {
                let (response, outstanding) = self.ask(pool, asked).await?;
                Ok(pass_down(asked, response, outstanding))
            }
            Backend::Local(name) => match self.instances.get(name) {
                Some(instance) => self.call(instance, asked).await,
                None => Err(problem(&Failure::Refused, asked.entered)),
            },
            Backend::Assets(prefix) => match &self.assets {
                Some(assets) => assets.get(prefix, asked.request, asked.entered.admitted.target_path()).await,
                None => Err(problem(&Failure::Refused, asked.entered)),
            },
        }
    }

    /// Answers from the cache, or asks once for all who want the same.
    async fn cached(
        &self,
        cache: &Cache,
        backend: &Backend,
        asked: Asked<'_>,
    ) -> Result<HttpResponse, Problem> {
        let Asked { request, method, headers, entered, .. } = asked;
        let rule = &entered.admitted.rule;
        let target = target(request, entered);
        let host = if rule.foreign { entered.forwarded.host() } else { "" };
        let key = format!("{host} {target}");
        let found = cache.find(&key, headers);
        metrics::cache_lookup(match &found {
            Found::Fresh(_) => "hit",
            Found::Stale(_) => "stale",
            Found::Nothing => "miss",
            Found::Passed => "passed",
        });
        match found {
            Found::Fresh(stored) => return Ok(stored.answer(method, headers, "orrery; hit")),
            Found::Passed => return self.answer(backend, asked).await,
            Found::Stale(_) | Found::Nothing => {}
        }
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let flight = cache.flights.acquire(&format!("{key} {accept}"), rule.silence).await;
        let stale = match cache.find(&key, headers) {
            Found::Fresh(stored) => return Ok(stored.answer(method, headers, "orrery; hit; collapsed")),
            Found::Passed => {
                drop(flight);
                return self.answer(backend, asked).await;
            }
            Found::Stale(stored) => Some(stored),
            Found::Nothing => None,
        };
        let purges = cache.purges();
        let mut whole = headers.clone();
        for condition in [
            header::IF_NONE_MATCH,
            header::IF_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
            header::IF_RANGE,
        ] {
            whole.remove(condition);
        }
        if let Some(etag) = stale.as_ref().and_then(|stale| stale.etag()) {
            whole.insert(header::IF_NONE_MATCH, etag.clone());
        }
        let wanted = Asked { method: &Method::GET, headers: &whole, ..asked };
        let response = self.answer(backend, wanted).await?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(stale) = stale
        {
            let stored = cache.refresh(&key, &target, headers, &stale, response.headers(), purges);
            return Ok(stored.answer(method, headers, "orrery; fwd=stale; fwd-status=304"));
        }
        Ok(match cache.keep(&key, &target, headers, response, purges).await {
            Ok(stored) => stored.answer(method, headers, "orrery; fwd=miss; stored"),
            Err(response) if *method == Method::HEAD => {
                response.map_body(|_, body| Untold(body.size()).boxed())
            }
            Err(response) => response,
        })
    }

    /// What a service answers to a plain read of ours; none when it does not.
    pub async fn read(
        &self,
        request: &HttpRequest,
        live: &Live,
        service: &str,
        path: &str,
    ) -> Option<Vec<u8>> {
        let backend = live.backends.iter().find(|backend| match backend {
            Backend::Pool(pool) => pool.settings.name == service,
            Backend::Local(name) => *name == service,
            Backend::Assets(_) => false,
        })?;
        match backend {
            Backend::Pool(pool) => {
                let outstanding = pool.pick(&[]).ok()?;
                let endpoint = outstanding.endpoint();
                self.dial.show(endpoint);
                let asking = self
                    .client
                    .get(format!("http://{}{path}", endpoint.host()))
                    .insert_header((header::HOST, endpoint.authority.as_str()))
                    .send();
                let mut answer =
                    timeout(READ, asking).await.ok()?.ok().filter(|answer| answer.status().is_success())?;
                let body = timeout(READ, answer.body().limit(READ_BYTES)).await.ok()?.ok()?;
                Some(body.to_vec())
            }
            Backend::Local(name) => {
                let headers = HeaderMap::new();
                let calling =
                    self.instances.get(name)?.call_with(request, &Method::GET, path, headers, Payload::None);
                let answer =
                    timeout(READ, calling).await.ok()?.ok().filter(|answer| answer.status().is_success())?;
                Some(body::to_bytes(answer.into_body()).await.ok()?.to_vec())
            }
            Backend::Assets(_) => None,
        }
    }

    /// Asks a service of this process.
    async fn call(&self, instance: &Instance, asked: Asked<'_>) -> Result<HttpResponse, Problem> {
        let Asked { request, method, headers, entered, framing, body } = asked;
        let mut headers = headers::for_local(headers, entered.trace);
        entered.forwarded.write(&mut headers, entered.admitted.rule.foreign);
        let target = target(request, entered);
        let answered = in_turn(asked, instance.call(request, method, &target, headers, framing, body)).await;
        if let Some(fault) = body.fault() {
            return Err(problem(&Failure::Client(fault), entered));
        }
        let mut response = answered
            .and_then(|answered| answered.map_err(|error| local_failure(&error, entered.trace)))
            .map_err(|failure| problem(&failure, entered))?;
        *response.headers_mut() = headers::for_client(response.headers());
        Ok(response)
    }

    /// Opens a WebSocket, or whatever else the client upgrades to, at what answers.
    async fn upgraded(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        entered: &Entered,
        backend: &Backend,
    ) -> Result<HttpResponse, Problem> {
        let mut headers = headers::for_upgrade(request.headers(), entered.trace);
        entered.forwarded.write(&mut headers, entered.admitted.rule.foreign);
        let target = target(request, entered);
        match backend {
            Backend::Pool(pool) => {
                let mut tried = Vec::new();
                loop {
                    let outstanding =
                        pool.pick_for_upgrade(&tried).map_err(|why| problem(&why.into(), entered))?;
                    let endpoint = Arc::clone(outstanding.endpoint());
                    self.host(&mut headers, &endpoint, entered);
                    match tunnel::open(&endpoint, self.tls.as_ref(), self.connect, &target, &headers).await {
                        Ok(opened) => {
                            endpoint.succeeded();
                            return Ok(opened.answer(payload.into_inner(), outstanding));
                        }
                        Err(tunnel::TunnelError::Link(_)) => {
                            endpoint.eject();
                            tried.push(endpoint.id);
                        }
                        Err(tunnel::TunnelError::Broken(_)) => {
                            endpoint.failed();
                            return Err(problem(&Failure::Broken, entered));
                        }
                        Err(tunnel::TunnelError::Late) => {
                            endpoint.failed();
                            return Err(problem(&Failure::Late, entered));
                        }
                    }
                }
            }
            Backend::Local(name) => {
                let instance = self.instances.get(name).ok_or_else(|| problem(&Failure::Refused, entered))?;
                let mut response = instance
                    .call_with(request, request.method(), &target, headers, payload.into_inner())
                    .await
                    .map_err(|error| problem(&local_failure(&error, entered.trace), entered))?;
                let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                let protocol = response.headers().get(header::UPGRADE).cloned();
                *response.headers_mut() = headers::for_client(response.headers());
                if let Some(protocol) = protocol.filter(|_| upgraded) {
                    response.headers_mut().insert(header::UPGRADE, protocol);
                }
                Ok(response)
            }
            Backend::Assets(_) => Err(Problem::new(Code::NotFound, "nothing is at this path")),
        }
    }

    async fn ask(&self, pool: &Pool, asked: Asked<'_>) -> Result<(ClientResponse, Outstanding), Problem> {
        let Asked { request, method, headers, entered, framing, body } = asked;
        let failed = |failure: &Failure| problem(failure, entered);
        if framing != Framing::None {
            body.begin().await.map_err(|fault| failed(&Failure::Client(fault)))?;
        }
        let mut headers = headers::for_upstream(headers, entered.trace);
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
    fn host(&self, headers: &mut HeaderMap, endpoint: &Arc<Endpoint>, entered: &Entered) {
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

/// Awaits an answer for as long as who answers may be silent; that clock stands still while the client is awaited, which has its own. A client that
/// goes away once it has sent everything takes its request with it: what was not begun has no effect.
async fn in_turn<T>(asked: Asked<'_>, answering: impl Future<Output = T>) -> Result<T, Failure> {
    let (body, silence) = (asked.body, asked.entered.admitted.rule.silence);
    let seat = asked.request.conn_data::<Rc<Seat>>();
    let left = async {
        match seat {
            Some(seat) => seat.left().await,
            None => pending().await,
        }
        // A body that breaks off is told of by the body; looked at again whenever the answer is.
        poll_fn(|_| if body.is_whole() { Poll::Ready(()) } else { Poll::Pending }).await;
    };
    let begun = Instant::now();
    tokio::pin!(answering, left);
    loop {
        let turn = body.upstreams_turn().map_or_else(Instant::now, |since| since.max(begun));
        tokio::select! {
            biased;
            answer = &mut answering => return Ok(answer),
            () = &mut left => return Err(Failure::Left),
            () = sleep_until(turn + silence) => {
                let turn = body.upstreams_turn().map(|since| since.max(begun));
                if turn.is_some_and(|turn| turn + silence <= Instant::now()) {
                    return Err(Failure::Late);
                }
            }
        }
    }
}

/// Whether an answer to this may be everybody's.
fn may_be_kept(asked: Asked<'_>) -> bool {
    asked.entered.admitted.rule.cached
        && matches!(*asked.method, Method::GET | Method::HEAD)
        && asked.framing == Framing::None
        && ![header::AUTHORIZATION, header::COOKIE, header::RANGE]
            .iter()
            .any(|name| asked.headers.contains_key(name))
}

fn pass_down(asked: Asked<'_>, response: ClientResponse, outstanding: Outstanding) -> HttpResponse {
    let rule = &asked.entered.admitted.rule;
    let status = response.status();
    let headers = headers::for_client(response.headers());
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

/// Path and query as the target sees them.
fn target(request: &HttpRequest, entered: &Entered) -> String {
    let path = entered.admitted.target_path();
    request.uri().query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

fn local_failure(error: &LocalError, trace: TraceParent) -> Failure {
    if matches!(error, LocalError::NotStarted) {
        return Failure::Refused;
    }
    warn!(%error, trace = trace.trace_id(), "a service of this process failed as a whole");
    Failure::Broken
}

fn problem(failure: &Failure, entered: &Entered) -> Problem {
    match failure {
        Failure::Refused => Problem::new(Code::Unavailable, "the service is away; try again in a second"),
        Failure::Full => {
            metrics::shed("upstream");
            Problem::new(Code::Unavailable, "the service has too much to do; try again in a second")
        }
        Failure::Broken => Problem::new(Code::BadGateway, "the service broke off; try again"),
        Failure::Late => Problem::new(Code::GatewayTimeout, "the service did not answer in time; try again"),
        Failure::Client(Fault::Slow) => Problem::new(
            Code::Timeout,
            format!(
                "nothing of the body came for {} s; send it without pauses",
                entered.live.config.body_timeout.as_secs()
            ),
        ),
        Failure::Client(Fault::Large) => too_large(entered.admitted.rule.most_bytes),
        Failure::Client(Fault::Broken) => {
            Problem::new(Code::Malformed, "the body ended before its announced end")
        }
        Failure::Left => Problem::new(Code::Malformed, "the client went away before the answer"),
    }
}

impl From<Unavailable> for Failure {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::None => Self::Refused,
            Unavailable::Full => Self::Full,
        }
    }
}

impl Failure {
    fn of(error: &SendRequestError) -> Self {
        match error {
            // What awc calls a connect error, but for this one, comes before anything is sent.
            SendRequestError::Connect(ConnectError::Disconnected) => Self::Broken,
            SendRequestError::Connect(_) => Self::Refused,
            SendRequestError::Timeout => Self::Late,
            _ => Self::Broken,
        }
    }
}

fn too_large(most_bytes: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("the body may have {most_bytes} bytes at most"))
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
