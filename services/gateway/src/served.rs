//! What the gateway is told of each service behind it: its routes, and the way to it. The gateway imports no service.

use orrery_schemas::routes::Route;
use orrery_service::Local;
use url::Url;

/// A service behind the gateway.
#[derive(Clone)]
pub struct Served {
    /// Its name, as in the configuration.
    pub name: &'static str,
    /// Its table.
    pub routes: &'static [Route],
    /// How requests reach it.
    pub way: Way,
}

/// How requests reach a service.
#[derive(Clone)]
pub enum Way {
    /// Its replicas.
    Upstreams(Vec<Url>),
    /// Its application in this process, without a socket. It starts after the gateway: until then its routes are answered 503.
    Local(Local),
}
