//! Passes an admitted request to what answers it and the answer back, both as streams. Which requests are admitted lives in
//! `routes`, which replica is next in `upstream`, which answers are kept in `cache`.

mod ask;
mod cached;
mod failure;

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
    body::{self, MessageBody},
    dev::Payload,
    http::{
        Method, StatusCode,
        header::{self, HeaderMap},
    },
    web,
};
use awc::{Client, Connector};
use orrery_schemas::{problems::Code, routes::Streaming, trace::TraceParent};
use orrery_web::problem::Problem;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use self::failure::{Failure, local_failure, problem, too_large};
use crate::{
    answer::BodyWithGuards,
    assets::Assets,
    body::{ClientBody, Framing},
    cache::Cache,
    config::Config,
    end_to_end,
    forwarded::Forwarded,
    listen::seat::Seat,
    live::{Backend, Live},
    local::Instance,
    routes::{Admitted, Target},
    served::{Served, Way},
    tunnel,
    upstream::{Dial, Tls},
    verify::Verifier,
};

/// A connection is not used again after this pause: below the 5 s after which an actix upstream closes it, since a
/// request that meets the close is lost, and only some may be sent twice.
const KEEP: Duration = Duration::from_secs(2);
/// How long a read of ours may take, and how much it may bring.
const READ: Duration = Duration::from_secs(3);
const READ_BYTES: usize = 256 * 1024;
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
                match self.cache.as_ref().filter(|_| cached::may_be_kept(asked)) {
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
                Ok(ask::pass_down(asked, response, outstanding))
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
        let mut headers = end_to_end::for_local(headers, entered.trace);
        entered.forwarded.write(&mut headers, entered.admitted.rule.foreign);
        let target = target(request, entered);
        let answered = in_turn(asked, instance.call(request, method, &target, headers, framing, body)).await;
        if let Some(fault) = body.fault() {
            return Err(problem(&Failure::Client(fault), entered));
        }
        let mut response = answered
            .and_then(|answered| answered.map_err(|error| local_failure(&error, entered.trace)))
            .map_err(|failure| problem(&failure, entered))?;
        *response.headers_mut() = end_to_end::for_client(response.headers());
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
        let mut headers = end_to_end::for_upgrade(request.headers(), entered.trace);
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
                *response.headers_mut() = end_to_end::for_client(response.headers());
                if let Some(protocol) = protocol.filter(|_| upgraded) {
                    response.headers_mut().insert(header::UPGRADE, protocol);
                }
                Ok(response)
            }
            Backend::Assets(_) => Err(Problem::new(Code::NotFound, "nothing is at this path")),
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

/// Path and query as the target sees them.
fn target(request: &HttpRequest, entered: &Entered) -> String {
    let path = entered.admitted.target_path();
    request.uri().query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}
