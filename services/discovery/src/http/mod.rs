//! Discovery's HTTP side: the upgrade to a WebSocket, look-ups, settings. The contract is `schemas/openapi.yaml`.

mod bearer;
mod fault;
mod peers;
mod settings;
mod turn;
mod upgrade;

use std::{sync::Arc, time::Duration};

use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, Data, JsonConfig, ServiceConfig},
};
use orrery_schemas::{
    problems::Code,
    routes::{Method, Route},
};
use orrery_service::Application;
use orrery_web::{health::Health, problem::Problem, table::serve};
use tracing::warn;

pub use bearer::Keys;
pub use turn::Turn;

use crate::{config::Config, routes::ROUTES, socket::Shared};

/// What the routes work with.
#[derive(Clone)]
pub struct AppState {
    /// What sockets share.
    pub shared: Shared,
    /// What verifies tokens.
    pub keys: Keys,
    /// Makes credentials for the TURN server, if there is one.
    pub turn: Option<Arc<Turn>>,
}

/// Discovery's application, for its own listener and for a gateway in the same process.
pub fn application(app: AppState) -> Application {
    let app = Data::new(app);
    Arc::new(move |config| {
        let scope = web::scope("")
            .app_data(Data::clone(&app))
            .app_data(JsonConfig::default().limit(4096).error_handler(|_, _| {
                Problem::new(Code::Malformed, "send a small JSON object, with Content-Type: application/json")
                    .into()
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
    let (listen, workers) = (config.listen, config.workers);
    // Each socket is a file; what is needed beside them is little.
    let files = u64::try_from(config.sockets).unwrap_or(u64::MAX).saturating_add(1024);
    if let Err(error) = rlimit::increase_nofile_limit(files) {
        warn!(%error, "the limit of open files cannot be raised");
    }
    let patience = config.write_timeout;
    let application = Arc::clone(application);
    let server = HttpServer::new(move || {
        App::new().configure(health.clone().routes(false)).configure(|config| application(config))
    })
    .workers(workers)
    .max_connections(config.sockets.saturating_add(1024) / workers.max(1) + 1)
    .backlog(4096)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(5)
    .disable_signals()
    .on_connect(move |connection, _| upgrade::limit_writing(connection, patience))
    .bind(listen);
    Ok(server?.run())
}

fn routes(config: &mut ServiceConfig) {
    serve(config, ROUTES, handled);
}

/// The handler of a route; none is a fault that a test finds.
fn handled(route: &Route, by: actix_web::Route) -> Option<actix_web::Route> {
    Some(match (route.method, route.pattern) {
        (Method::Get, "/socket/websocket") => by.to(upgrade::upgrade),
        (Method::Get, "/peers/@me") => by.to(settings::show),
        (Method::Put, "/peers/@me") => by.to(settings::set),
        (Method::Put, "/peers/@me/contacts/{vanity}") => by.to(settings::add_contact),
        (Method::Delete, "/peers/@me/contacts/{vanity}") => by.to(settings::remove_contact),
        (Method::Put, "/peers/@me/blocked/{vanity}") => by.to(settings::block),
        (Method::Delete, "/peers/@me/blocked/{vanity}") => by.to(settings::unblock),
        (Method::Get, "/peers/@me/turn") => by.to(turn::credentials),
        (Method::Get, "/peers/{vanity}") => by.to(peers::look_up),
        _ => return None,
    })
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "nothing is at this address; the routes are in /openapi.yaml")
}

/// The trace of a request: the gateway's, or a new one.
async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(app) = request.app_data::<Data<AppState>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    orrery_web::trace::answer("discovery", &app.shared.random, false, request, next).await
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
    let (request, bare) = answer.into_parts();
    let allow = bare.headers().get(header::ALLOW).cloned();
    let methods = allow.as_ref().and_then(|allow| allow.to_str().ok()).unwrap_or("other methods");
    let problem = Problem::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
    let mut response = HttpResponse::from_error(problem);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    Ok(ServiceResponse::new(request, response))
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
