//! From a service's table of routes to actix's resources. The tables, and the handlers that they name, live in the services.

use actix_web::web::{self, ServiceConfig};
use orrery_schemas::routes::{Method, Route};

/// One resource a path of `table`, with its handlers; that of GET takes HEAD too. A route for which `handled` knows no handler is not served, which a
/// test finds.
pub fn serve(
    config: &mut ServiceConfig,
    table: &[Route],
    handled: impl Fn(&Route, actix_web::Route) -> Option<actix_web::Route>,
) {
    let mut served: Vec<&'static str> = Vec::new();
    for Route { pattern, .. } in table {
        if served.contains(pattern) {
            continue;
        }
        served.push(pattern);
        let mut resource = web::resource(*pattern);
        for route in table.iter().filter(|route| route.pattern == *pattern) {
            if let Some(handled) = handled(route, method(route.method)) {
                resource = resource.route(handled);
            }
            if route.method == Method::Get
                && let Some(handled) = handled(route, web::head())
            {
                resource = resource.route(handled);
            }
        }
        config.service(resource);
    }
}

/// Takes requests of this method.
pub fn method(method: Method) -> actix_web::Route {
    match method {
        Method::Get => web::get(),
        Method::Post => web::post(),
        Method::Put => web::put(),
        Method::Patch => web::patch(),
        Method::Delete => web::delete(),
        Method::Options => web::method(actix_web::http::Method::OPTIONS),
    }
}
