//! Passes an admitted request to an upstream and its answer back, both as streams. Which requests are admitted lives in
//! `routes`, which upstream is next in `balance`.

use std::time::Duration;

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::{self, BodySize, MessageBody, SizedStream},
    http::{Method, StatusCode, Version, header},
    web,
};
use awc::{
    Client, ClientResponse, Connector,
    error::{ConnectError, SendRequestError},
};
use orrery_actors::{
    random::Random,
    web::{problem::Problem, trace},
};
use orrery_schemas::{problems::Code, trace::TraceParent};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::{
    answer::{Answer, Held, Untold},
    balance::{Balancer, Upstream},
    body::{ClientBody, Fault, Framing},
    config::Config,
    headers,
    routes::{Accepts, Admitted, Target},
    socket::Dial,
};

/// For how long a request that no upstream got is tried again: a restart fits into it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two rounds over all upstreams.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time for a connection to an upstream; they are all near.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection is not used again after this pause: below the 5 s after which an actix upstream closes it, since a
/// request that meets the close is lost, and only some may be sent twice.
const KEEP: Duration = Duration::from_secs(2);

/// A worker's way to the upstreams.
pub struct Proxy {
    client: Client,
    autha: std::sync::Arc<Balancer>,
    random: Random,
    config: Config,
}

/// Why a try brought no answer.
enum Failure {
    /// No connection: nothing was sent.
    Refused,
    /// A connection, and then no answer that makes sense.
    Broken,
    /// No answer in time.
    Late,
    /// The client's own body failed.
    Client(Fault),
}

impl Proxy {
    /// A proxy for the worker that calls this; its connections belong to that thread.
    pub fn new(config: Config, autha: std::sync::Arc<Balancer>, random: Random) -> Self {
        let connector = Connector::new()
            .connector(Dial::new())
            .timeout(CONNECT.min(config.upstream_timeout))
            .conn_keep_alive(KEEP)
            .limit(config.connections);
        // No timeout of awc's: it would count the time in which a client sends its picture.
        let client = Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish();
        Self { client, autha, random, config }
    }
}

/// The handler of everything that the gateway does not answer itself.
pub async fn forward(request: HttpRequest, payload: web::Payload, proxy: web::Data<Proxy>) -> HttpResponse {
    let trace = proxy.trace(request.headers());
    let admitted = request.extensions().get::<Admitted>().cloned();
    let Some(admitted) = admitted.filter(|admitted| admitted.route.target == Target::Autha) else {
        return Problem::new(Code::NotFound, "nothing is at this path").within(trace).error_response();
    };
    let (most_bytes, whole) = match admitted.accepts {
        Accepts::Form => (proxy.config.body_limit, proxy.config.body_timeout),
        Accepts::Upload => (proxy.config.upload_limit, proxy.config.upload_timeout),
    };
    let framing = Framing::of(&request);
    let payload = payload.into_inner();
    let pause = proxy.config.body_timeout;
    let body = ClientBody::new(payload, framing.unwrap_or(Framing::None), most_bytes, pause, whole);
    let outcome = match framing {
        None => Err(Problem::new(Code::Malformed, "the request's length cannot be read")),
        Some(Framing::Sized(bytes)) if bytes > most_bytes => Err(too_large(most_bytes)),
        Some(framing) => proxy.ask(&request, &admitted, trace, framing, &body).await,
    };
    let response = match outcome {
        Ok(response) => proxy.pass_down(request.method(), response),
        Err(problem) => {
            let problem = problem.within(trace);
            if problem.status_code().is_server_error() {
                warn!(%problem, trace = trace.trace_id(), "a request was not answered by its service");
            }
            problem.error_response()
        }
    };
    response.map_body(|_, inner| Held::new(inner, Some(body), None).boxed())
}

impl Proxy {
    /// The trace of a request.
    pub fn trace(&self, client: &header::HeaderMap) -> TraceParent {
        trace::of(client, &self.random)
    }

    async fn ask(
        &self,
        request: &HttpRequest,
        admitted: &Admitted,
        trace: TraceParent,
        framing: Framing,
        body: &ClientBody,
    ) -> Result<ClientResponse, Problem> {
        if framing != Framing::None {
            body.begin().await.map_err(|fault| self.problem(&Failure::Client(fault), admitted.accepts))?;
        }
        let headers = headers::for_upstream(request.headers(), trace);
        let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
        let until = Instant::now() + PATIENCE;
        loop {
            let mut last = Failure::Refused;
            for upstream in self.autha.order() {
                let url = upstream.url(&admitted.path, request.uri().query());
                last = match self.send(request.method(), url, headers.clone(), framing, body).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                };
                self.note(&last, upstream);
                if !last.may_try_again(repeatable, body) {
                    return Err(self.problem(&last, admitted.accepts));
                }
            }
            if Instant::now() >= until {
                return Err(self.problem(&last, admitted.accepts));
            }
            sleep(PAUSE).await;
        }
    }

    fn note(&self, failure: &Failure, upstream: &Upstream) {
        if matches!(failure, Failure::Refused) {
            self.autha.set_aside(upstream);
        }
    }

    async fn send(
        &self,
        method: &Method,
        url: String,
        headers: header::HeaderMap,
        framing: Framing,
        body: &ClientBody,
    ) -> Result<ClientResponse, Failure> {
        let mut request = self.client.request(method.clone(), url).no_decompress();
        *request.headers_mut() = headers;
        let sending = match framing {
            Framing::None => request.send_body(body::None::new()),
            Framing::Sized(0) => request.send_body(bytes::Bytes::new()),
            Framing::Sized(bytes) => request.send_body(SizedStream::new(bytes, body.clone())),
            Framing::Chunked => request.send_stream(body.clone()),
        };
        let begun = Instant::now();
        tokio::pin!(sending);
        let sent = loop {
            // The upstream's clock stands still while the client is awaited, which has its own.
            let turn = body.upstreams_turn().map_or_else(Instant::now, |since| since.max(begun));
            let deadline = turn + self.config.upstream_timeout;
            tokio::select! {
                biased;
                sent = &mut sending => break sent,
                () = sleep_until(deadline) => {
                    let turn = body.upstreams_turn().map(|since| since.max(begun));
                    if turn.is_some_and(|turn| turn + self.config.upstream_timeout <= Instant::now()) {
                        return Err(Failure::Late);
                    }
                }
            }
        };
        match sent {
            Ok(response) if sound(method, &response) => Ok(response),
            Ok(_) => Err(Failure::Broken),
            Err(error) => Err(body.fault().map_or_else(|| Failure::of(&error), Failure::Client)),
        }
    }

    fn pass_down(&self, method: &Method, response: ClientResponse) -> HttpResponse {
        let status = response.status();
        let headers = headers::for_client(response.headers());
        let bytes = length(&response);
        let body = if *method == Method::HEAD {
            Untold(bytes.map_or(BodySize::None, BodySize::Sized)).boxed()
        } else if bodyless(status) {
            // awc would wait for the body that a 304's Content-Length speaks of.
            drop(response);
            Untold(BodySize::None).boxed()
        } else {
            let chunked = response.chunked().unwrap_or(false);
            let bytes = if chunked { None } else { Some(bytes.unwrap_or(0)) };
            Answer::new(response, bytes, self.config.upstream_timeout).boxed()
        };
        let mut down = HttpResponse::with_body(status, body);
        *down.headers_mut() = headers;
        down
    }

    fn problem(&self, failure: &Failure, accepts: Accepts) -> Problem {
        match failure {
            Failure::Refused => Problem::new(Code::Unavailable, "the service is away; try again in a second"),
            Failure::Broken => Problem::new(Code::BadGateway, "the service broke off; try again"),
            Failure::Late => {
                Problem::new(Code::GatewayTimeout, "the service did not answer in time; try again")
            }
            Failure::Client(Fault::Slow) => Problem::new(
                Code::Timeout,
                format!(
                    "nothing of the body came for {} s; send it without pauses",
                    self.config.body_timeout.as_secs()
                ),
            ),
            Failure::Client(Fault::Large) => too_large(match accepts {
                Accepts::Form => self.config.body_limit,
                Accepts::Upload => self.config.upload_limit,
            }),
            Failure::Client(Fault::Broken) => {
                Problem::new(Code::Malformed, "the body ended before its announced end")
            }
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

    /// Whether the request may be sent again: it was not sent, or it is one that changes nothing and has no body.
    fn may_try_again(&self, repeatable: bool, body: &ClientBody) -> bool {
        match self {
            Self::Refused => !body.started(),
            Self::Broken => repeatable && !body.started(),
            Self::Late | Self::Client(_) => false,
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
