//! Autha's HTTP side: routes and what they share. The contract is `schemas/openapi.yaml`.

mod avatar;
mod bearer;
mod body;
mod desk;
mod fault;
mod instance;
mod media;
mod profile;
mod session;
mod sign_up;
mod trace;

use std::time::Duration;

use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, Data, QueryConfig},
};
use orrery_actors::web::{health::Health, problem::Problem};
use orrery_schemas::problems::Code;

pub use desk::Desk;

/// How long an actor may take to answer a request.
const ACTOR_LIMIT: Duration = Duration::from_secs(6);

/// The server, bound and not yet run.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(desk: Desk, health: Health) -> std::io::Result<Server> {
    let (listen, workers) = (desk.config.listen, desk.config.workers);
    let desk = Data::new(desk);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&desk))
            .app_data(QueryConfig::default().error_handler(|error, _| {
                let detail = format!("the query cannot be read: {error}; send each parameter once");
                Problem::new(Code::Malformed, detail).into()
            }))
            .wrap(from_fn(refuse_method))
            .wrap(from_fn(trace::trace))
            .configure(health.clone().routes(false))
            .configure(routes)
            .default_service(web::to(|| async { Err::<&str, _>(not_found()) }))
    })
    .workers(workers)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(5)
    .disable_signals()
    .bind(listen);
    Ok(server?.run())
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/create").route(web::post().to(sign_up::create)))
        .service(web::resource("/login").route(web::post().to(session::log_in)))
        .service(web::resource("/oauth/token").route(web::post().to(session::token)))
        .service(
            web::resource("/users/@me").route(web::get().to(profile::me)).route(web::head().to(profile::me)),
        )
        .service(
            web::resource("/users/@me/avatar")
                .route(web::put().to(avatar::put))
                .route(web::delete().to(avatar::delete)),
        )
        .service(
            web::resource("/users/@me/avatar/uploads/{upload}")
                .route(web::get().to(avatar::status))
                .route(web::head().to(avatar::status)),
        )
        .service(
            web::resource("/users/{id}")
                .route(web::get().to(profile::user))
                .route(web::head().to(profile::user)),
        )
        .service(
            web::resource("/avatars/{id}")
                .route(web::get().to(media::current))
                .route(web::head().to(media::current)),
        )
        .service(
            web::resource("/avatars/{account}/{upload}/{file}")
                .route(web::get().to(media::variant))
                .route(web::head().to(media::variant)),
        )
        .service(
            web::resource("/status.json")
                .route(web::get().to(instance::status))
                .route(web::head().to(instance::status)),
        )
        .service(
            web::resource("/.well-known/jwks.json")
                .route(web::get().to(instance::jwks))
                .route(web::head().to(instance::jwks)),
        )
        .service(
            web::resource("/openapi.yaml")
                .route(web::get().to(instance::openapi))
                .route(web::head().to(instance::openapi)),
        );
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "nothing is at this address; the routes are in /openapi.yaml")
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
