//! Liveness and readiness: what is asked, what is down, what is only degraded. Each service says what it needs.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header, web};
use futures_util::future::join_all;
use serde::Serialize;

use crate::supervise::Supervisor;

/// How long a dependency may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

type Ask = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Something that a process depends on.
#[derive(Clone)]
pub struct Dependency {
    name: &'static str,
    /// Whether the process can do nothing useful without it.
    required: bool,
    ask: Ask,
}

impl Dependency {
    /// A dependency and how to ask for it.
    pub fn new<F, Fut>(name: &'static str, required: bool, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self { name, required, ask: Arc::new(move || Box::pin(ask())) }
    }
}

/// What the health routes know.
#[derive(Clone)]
pub struct Health {
    dependencies: Vec<Dependency>,
    supervisor: Supervisor,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    /// Away, and needed to be ready.
    down: Vec<&'static str>,
    /// Away, and worked around: what needs it waits.
    degraded: Vec<&'static str>,
}

impl Health {
    /// Health by these dependencies.
    pub fn new(dependencies: Vec<Dependency>, supervisor: Supervisor) -> Self {
        Self { dependencies, supervisor }
    }

    /// Adds `/health/live`, `/health/ready` and, for operators only, `/health/actors`.
    pub fn routes(self, operators: bool) -> impl FnOnce(&mut web::ServiceConfig) {
        move |config| {
            config
                .app_data(web::Data::new(self))
                .route("/health/live", web::get().to(live))
                .route("/health/ready", web::get().to(ready));
            if operators {
                config.route("/health/actors", web::get().to(actors));
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

async fn ready(health: web::Data<Health>) -> HttpResponse {
    let answers = join_all(health.dependencies.iter().map(|dependency| async move {
        let up = matches!(tokio::time::timeout(LIMIT, (dependency.ask)()).await, Ok(true));
        (dependency, up)
    }))
    .await;
    let away = |required| {
        answers
            .iter()
            .filter(|(dependency, up)| !up && dependency.required == required)
            .map(|(dependency, _)| dependency.name)
            .collect::<Vec<_>>()
    };
    let (down, degraded) = (away(true), away(false));
    let (mut response, status) = if down.is_empty() {
        (HttpResponse::Ok(), if degraded.is_empty() { "ready" } else { "degraded" })
    } else {
        let mut response = HttpResponse::ServiceUnavailable();
        response.insert_header((header::RETRY_AFTER, "1"));
        (response, "unready")
    };
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(Ready { status, down, degraded })
}

async fn actors(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok().json(health.supervisor.status())
}
