//! Liveness and readiness: what is asked, what is down, what is only degraded. Each service says what it needs.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, http::header, web};
use futures_util::future::join_all;
use orrery_supervise::{ActorStatus, Supervisor};
use serde::Serialize;

use crate::drain::Drain;

/// How long a dependency may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// An answer: nothing, or why it is away, in words for an operator.
type State = Result<(), String>;
type Ask = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = State> + Send>> + Send + Sync>;

/// Something that a process depends on.
#[derive(Clone)]
pub struct Dependency {
    name: &'static str,
    /// Whether the process can do nothing useful without it.
    required: bool,
    ask: Ask,
}

impl Dependency {
    /// A dependency, and how to ask for it and why it is away. The reason is for operators: it may name hosts, and never anything personal.
    pub fn new<F, Fut>(name: &'static str, required: bool, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, required, ask: Arc::new(move || Box::pin(ask())) }
    }
}

/// What the health routes know.
#[derive(Clone)]
pub struct Health {
    dependencies: Arc<RwLock<Vec<Dependency>>>,
    supervisor: Supervisor,
    drain: Drain,
    described: Arc<OnceLock<Described>>,
    started: Instant,
}

/// What a process is, for operators.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its version.
    pub version: &'static str,
    /// The services that it runs.
    pub services: Vec<&'static str>,
}

/// What a process says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// `ready`, `degraded` or `unready`.
    pub status: &'static str,
    /// Away, and needed to be ready.
    pub down: Vec<&'static str>,
    /// Away, and worked around: what needs it waits.
    pub degraded: Vec<&'static str>,
    /// Why, for operators.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<&'static str, String>,
}

impl Health {
    /// Health by these dependencies.
    pub fn new(dependencies: Vec<Dependency>, supervisor: Supervisor) -> Self {
        let dependencies = Arc::new(RwLock::new(dependencies));
        Self {
            dependencies,
            supervisor,
            drain: Drain::default(),
            described: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Says what the process is; what was said first stays.
    pub fn describe(&self, described: Described) {
        self.described.get_or_init(|| described);
    }

    /// More dependencies: those of a service that has started.
    pub fn add(&self, more: Vec<Dependency>) {
        self.dependencies.write().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    /// The leave that the process takes at its end.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Asks every dependency, each for a second at most.
    pub async fn ready(&self) -> Ready {
        let answers = join_all(self.dependencies().into_iter().map(|dependency| async move {
            let asked = tokio::time::timeout(LIMIT, (dependency.ask)()).await;
            let away = asked.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))).err();
            (dependency, away)
        }))
        .await;
        let away = |required| {
            answers
                .iter()
                .filter(|(dependency, away)| away.is_some() && dependency.required == required)
                .map(|(dependency, _)| dependency.name)
                .collect::<Vec<_>>()
        };
        let (down, degraded) = (away(true), away(false));
        let status = match (down.is_empty(), degraded.is_empty()) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "unready",
        };
        let causes =
            answers.iter().filter_map(|(dependency, away)| Some((dependency.name, away.clone()?))).collect();
        Ready { status, down, degraded, causes }
    }

    fn dependencies(&self) -> Vec<Dependency> {
        self.dependencies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds `/health/live`, `/health/ready` and, for operators only, `/health/actors` and `/health/process`.
    pub fn routes(self, operators: bool) -> impl FnOnce(&mut web::ServiceConfig) {
        move |config| {
            config.app_data(web::Data::new(self)).route("/health/live", web::get().to(live)).route(
                "/health/ready",
                web::get().to(move |health: web::Data<Self>| ready(health, operators)),
            );
            if operators {
                config
                    .route("/health/actors", web::get().to(actors))
                    .route("/health/process", web::get().to(process));
            }
        }
    }
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(Live { status: "live" })
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

async fn ready(health: web::Data<Health>, operators: bool) -> HttpResponse {
    if health.drain.is_begun() {
        let draining =
            Ready { status: "draining", down: Vec::new(), degraded: Vec::new(), causes: BTreeMap::new() };
        return HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "1"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(draining);
    }
    let mut ready = health.ready().await;
    if !operators {
        ready.causes.clear();
    }
    let mut response = if ready.down.is_empty() {
        HttpResponse::Ok()
    } else {
        let mut response = HttpResponse::ServiceUnavailable();
        response.insert_header((header::RETRY_AFTER, "1"));
        response
    };
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(ready)
}

async fn actors(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok().json(health.supervisor.status())
}

/// All that an operator is shown of a process, at once.
#[derive(Serialize)]
struct Process {
    version: &'static str,
    uptime_seconds: f64,
    services: Vec<&'static str>,
    #[serde(flatten)]
    ready: Ready,
    actors: Vec<ActorStatus>,
}

async fn process(health: web::Data<Health>) -> HttpResponse {
    let described = health.described.get();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(Process {
        version: described.map(|described| described.version).unwrap_or_default(),
        uptime_seconds: health.started.elapsed().as_secs_f64(),
        services: described.map(|described| described.services.clone()).unwrap_or_default(),
        ready: health.ready().await,
        actors: health.supervisor.status(),
    })
}
