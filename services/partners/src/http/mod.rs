//! The HTTP side of partners: routes and what they share. The contract is `schemas/openapi.yaml`.

mod admin;
mod bearer;
mod body;
pub mod directory;
mod endpoints;
mod events;
mod fault;
mod fields;
mod pull;
mod stream;
mod token;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, Error, HttpRequest, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, Data, QueryConfig, ServiceConfig},
};
use orrery_schemas::{
    problems::Code,
    routes::{Method, Route},
};
use orrery_service::Application;
use orrery_store::Pool;
use orrery_supervise::{Shutdown, clock::Clock, random::Random};
use orrery_web::{drain::last_answers, health::Health, problem::Problem, table::serve};
use tokio::{runtime::Handle, sync::Semaphore};

use self::directory::Directory;
use crate::{
    config::Config,
    deliver::tail::{Bell, Tail},
    operator::{Actor, Operator},
    publish::{intake::Intake, quota::Quotas},
    routes::ROUTES,
    targets::Gate,
    vault::Vault,
};

/// What the routes work with.
#[derive(Clone)]
pub struct AppState {
    /// Who partners are.
    pub directory: Directory,
    /// Connections.
    pub pool: Pool,
    /// Seals.
    pub vault: Arc<Vault>,
    /// The way out.
    pub gate: Gate,
    /// The log.
    pub tail: Arc<Tail>,
    /// Takes events in.
    pub intake: Arc<Intake>,
    /// Quotas of partners.
    pub quotas: Arc<Quotas>,
    /// Streams that may be open.
    pub streams: Arc<Semaphore>,
    /// Rung when an endpoint was changed.
    pub changed: Bell,
    /// The settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Ids and secrets.
    pub random: Random,
    /// The runtime that owns every client.
    pub main: Handle,
    /// When streams end.
    pub shutdown: Shutdown,
}

impl AppState {
    /// The operator's functions, for whoever acts; none for a partner that acts on what is its own.
    fn operator(&self, actor: Option<Actor>) -> Operator {
        Operator {
            actor,
            pool: self.pool.clone(),
            vault: Arc::clone(&self.vault),
            key_overlap: self.config.key_overlap,
            clock: self.clock.clone(),
            random: self.random.clone(),
        }
    }
}

/// The application of partners, for their own listener and for a gateway in the same process.
pub fn application(app: AppState) -> Application {
    let app = Data::new(app);
    Arc::new(move |config| {
        let scope = web::scope("")
            .app_data(Data::clone(&app))
            .app_data(QueryConfig::default().error_handler(|error, _| {
                let detail = format!("the query cannot be read: {error}; send each parameter once");
                Problem::new(Code::Malformed, detail).into()
            }))
            .wrap(from_fn(refuse_method))
            .wrap(from_fn(trace))
            .configure(routes)
            .default_service(web::to(|| async { Err::<&str, _>(not_found()) }));
        config.service(scope);
    })
}

/// The server of an application, bound and not yet run.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(config: &Config, application: &Application, health: Health) -> std::io::Result<Server> {
    let listener = TcpListener::bind(config.listen)?;
    health.drain().watch(&listener)?;
    let application = Arc::clone(application);
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(last_answers))
            .configure(health.clone().routes(false))
            .configure(|config| application(config))
    })
    .workers(config.workers)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(5)
    .disable_signals()
    .listen(listener);
    Ok(server?.run())
}

fn routes(config: &mut ServiceConfig) {
    serve(config, ROUTES, handled);
}

/// The handler of a route; none is a fault that a test finds.
fn handled(route: &Route, by: actix_web::Route) -> Option<actix_web::Route> {
    Some(match (route.method, route.pattern) {
        (Method::Post, "/partners/token") => by.to(token::token),
        (Method::Post, "/events") => by.to(events::publish),
        (Method::Get, "/events") => by.to(pull::pull),
        (Method::Get, "/events/stream") => by.to(stream::stream),
        (Method::Get, "/partners/endpoints") => by.to(endpoints::list),
        (Method::Post, "/partners/endpoints") => by.to(endpoints::create),
        (Method::Get, "/partners/endpoints/{endpoint}") => by.to(endpoints::show),
        (Method::Patch, "/partners/endpoints/{endpoint}") => by.to(endpoints::change),
        (Method::Delete, "/partners/endpoints/{endpoint}") => by.to(endpoints::remove),
        (Method::Post, "/partners/endpoints/{endpoint}/handshake") => by.to(endpoints::handshake),
        (Method::Post, "/partners/endpoints/{endpoint}/enable") => by.to(endpoints::enable),
        (Method::Post, "/partners/endpoints/{endpoint}/rotate-secret") => by.to(endpoints::rotate_secret),
        (Method::Get, "/partners/endpoints/{endpoint}/dead-letters") => by.to(endpoints::dead_letters),
        (Method::Post, "/partners/endpoints/{endpoint}/replay") => by.to(endpoints::replay),
        (Method::Get | Method::Post, "/partners/endpoints/{endpoint}/confirm/{secret}") => {
            by.to(endpoints::confirm)
        }
        (Method::Get, "/admin/partners") => by.to(admin::list),
        (Method::Post, "/admin/partners") => by.to(admin::create),
        (Method::Get, "/admin/partners/{partner}") => by.to(admin::show),
        (Method::Delete, "/admin/partners/{partner}") => by.to(admin::remove),
        (Method::Post, "/admin/partners/{partner}/rotate-key") => by.to(admin::rotate_key),
        (Method::Post, "/admin/partners/{partner}/disable") => by.to(admin::disable),
        (Method::Post, "/admin/partners/{partner}/enable") => by.to(admin::enable),
        (Method::Get, "/admin/partners/{partner}/endpoints") => by.to(admin::endpoints),
        (Method::Get, "/admin/event-types") => by.to(admin::schemas),
        (Method::Put, "/admin/event-types/{type}") => by.to(admin::register),
        _ => return None,
    })
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "nothing is at this address; the routes are in /openapi.yaml")
}

/// The trace of a request: the lines that are logged meanwhile carry it, and the problem that may be its answer.
async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(app) = request.app_data::<Data<AppState>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    orrery_web::trace::answer("partners", &app.random, false, request, next).await
}

/// actix answers another method without a word; this adds the problem document and keeps `Allow`.
async fn refuse_method(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let answer = next.call(request).await?.map_into_boxed_body();
    if answer.status() != StatusCode::METHOD_NOT_ALLOWED {
        return Ok(answer);
    }
    let (request, bare): (HttpRequest, _) = answer.into_parts();
    let allow = bare.headers().get(header::ALLOW).cloned();
    let methods = allow.as_ref().and_then(|allow| allow.to_str().ok()).unwrap_or("other methods");
    let problem = Problem::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
    let mut response = HttpResponse::from_error(problem);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Ok(ServiceResponse::new(request, response))
}

/// An answer that nobody keeps: it is about one client.
fn private(value: impl serde::Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "private, no-store")).json(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_has_a_handler() {
        for route in ROUTES {
            assert!(
                handled(route, orrery_web::table::method(route.method)).is_some(),
                "{} {}",
                route.method,
                route.pattern
            );
        }
    }
}
