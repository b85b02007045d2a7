//! Autha's HTTP side: routes and what they share. The contract is `schemas/openapi.yaml`.

mod account;
mod admin;
mod app;
mod avatar;
mod bearer;
mod body;
mod caller;
mod direct;
mod export;
mod fault;
mod fields;
mod instance;
mod limit;
mod mail_links;
mod media;
mod negotiate;
mod oauth;
mod profile;
mod proof;
mod session;
mod sign_up;
mod trace;
mod upload_check;
mod variant;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, Error, HttpResponse, HttpServer,
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
use orrery_web::{drain::last_answers, health::Health, problem::Problem, table::serve};

pub use app::AppState;

use crate::{config::Config, routes::ROUTES};

/// How long an actor may take to answer a request.
const ACTOR_LIMIT: Duration = Duration::from_secs(6);

/// Builds autha's application into a server's: its routes, and what stands around them.
pub type Application = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// Autha's application, for its own listener and for a gateway in the same process.
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
            .wrap(from_fn(trace::trace))
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
    let workers = config.workers;
    let listener = TcpListener::bind(config.listen)?;
    health.drain().watch(&listener)?;
    let application = Arc::clone(application);
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(last_answers))
            .configure(health.clone().routes(false))
            .configure(|config| application(config))
    })
    .workers(workers)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(10))
    // A caller who closes waits for no answer: what was not begun for them has no effect. The gateway passes it on so.
    .h1_allow_half_closed(false)
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
        (Method::Post, "/create") => by.to(sign_up::create),
        (Method::Post, "/login") => by.to(session::log_in),
        (Method::Post, "/logout") => by.to(session::log_out),
        (Method::Post, "/oauth/token") => by.to(oauth::token),
        (Method::Post, "/oauth/introspect") => by.to(oauth::introspect),
        (Method::Post, "/oauth/revoke") => by.to(oauth::revoke),
        (Method::Post, "/verify") => by.to(mail_links::verify),
        (Method::Post, "/verify/request") => by.to(mail_links::ask_verification),
        (Method::Post, "/recover") => by.to(mail_links::recover),
        (Method::Post, "/recover/request") => by.to(mail_links::ask_recovery),
        (Method::Post, "/address/confirm") => by.to(mail_links::confirm),
        (Method::Post, "/address/take-back") => by.to(mail_links::take_back),
        (Method::Get, "/users/@me") => by.to(profile::me),
        (Method::Patch, "/users/@me") => by.to(account::patch),
        (Method::Delete, "/users/@me") => by.to(account::delete),
        (Method::Post, "/users/@me/verification") => by.to(mail_links::ask_own_verification),
        (Method::Get, "/users/@me/totp") => by.to(account::totp_secret),
        (Method::Put, "/users/@me/totp") => by.to(account::set_up_totp),
        (Method::Delete, "/users/@me/totp") => by.to(account::switch_off_totp),
        (Method::Post, "/users/@me/recovery-codes") => by.to(account::recovery_codes),
        (Method::Get, "/users/@me/sessions") => by.to(session::list),
        (Method::Delete, "/users/@me/sessions") => by.to(session::end_all),
        (Method::Delete, "/users/@me/sessions/{session}") => by.to(session::end),
        (Method::Put, "/users/@me/avatar") => by.to(avatar::put),
        (Method::Delete, "/users/@me/avatar") => by.to(avatar::delete),
        (Method::Post, "/users/@me/avatar/upload") => by.to(direct::ask),
        (Method::Post, "/users/@me/avatar/upload/{upload}") => by.to(direct::complete),
        (Method::Get, "/users/@me/avatar/uploads/{upload}") => by.to(avatar::status),
        (Method::Get, "/users/{id}") => by.to(profile::user),
        (Method::Get, "/avatars/{id}") => by.to(media::current),
        (Method::Get, "/avatars/{picture}/{file}") => by.to(variant::variant),
        (Method::Get, "/status.json") => by.to(instance::status),
        (Method::Get, "/.well-known/jwks.json") => by.to(instance::jwks),
        (Method::Get, "/.well-known/openid-configuration") => by.to(instance::discovery),
        (Method::Get, "/.well-known/webfinger") => by.to(instance::webfinger),
        (Method::Get, "/openapi.yaml") => by.to(instance::openapi),
        (Method::Post, "/users/@me/export") => by.to(export::ask),
        (Method::Get, "/users/@me/export") => by.to(export::newest),
        (Method::Get, "/users/@me/export/{export}") => by.to(export::fetch),
        (Method::Get, "/admin/accounts") => by.to(admin::list),
        (Method::Post, "/admin/accounts") => by.to(admin::create),
        (Method::Get, "/admin/accounts/{account}") => by.to(admin::show),
        (Method::Delete, "/admin/accounts/{account}") => by.to(admin::delete),
        (Method::Post, "/admin/accounts/{account}/suspend") => by.to(admin::suspend),
        (Method::Post, "/admin/accounts/{account}/restore") => by.to(admin::restore),
        (Method::Post, "/admin/accounts/{account}/reset-second-factor") => by.to(admin::reset_second_factor),
        (Method::Post, "/admin/accounts/{account}/end-sessions") => by.to(admin::end_sessions),
        (Method::Post, "/admin/invites") => by.to(admin::invite),
        (Method::Get, "/admin/audit") => by.to(admin::audit),
        (Method::Get, "/admin/deletions") => by.to(admin::deletions),
        (Method::Get, "/openapi.json") => by.to(instance::openapi_json),
        _ => return None,
    })
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
