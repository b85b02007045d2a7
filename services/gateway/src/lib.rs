//! The edge: the only exposed part. One table of public routes, a streaming reverse proxy behind it, limits before it.
//! It keeps no state of its own and knows nothing of accounts.

mod answer;
mod balance;
mod body;
pub mod config;
mod edge;
mod headers;
mod path;
mod patience;
mod proxy;
mod routes;
mod socket;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web};
use orrery_actors::{random::Random, web::health::Health};

use crate::{balance::Balancer, config::Config, proxy::Proxy};

/// How long a connection is kept for a client's next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long the rest of a body that is not wanted is read, so that the client sees its answer before the end.
const LINGER: Duration = Duration::from_secs(5);
/// How long requests that were taken in may take when the server is stopped gracefully.
const SHUTDOWN_SECONDS: u64 = 10;

/// The server, bound to `config.listen`; it runs once it is awaited, and stops by its handle alone.
///
/// # Errors
/// When the address cannot be bound.
pub fn server(config: &Config, health: Health, random: Random) -> io::Result<Server> {
    server_on(TcpListener::bind(config.listen)?, config, health, random)
}

/// The server on a listener that is already bound, whatever `config.listen` says.
///
/// # Errors
/// When the listener cannot be used.
pub fn server_on(
    listener: TcpListener,
    config: &Config,
    health: Health,
    random: Random,
) -> io::Result<Server> {
    let settings = config.clone();
    let autha = Arc::new(Balancer::new(&config.autha));
    let patience = KEEP_ALIVE + config.client_timeout;
    let server = HttpServer::new(move || {
        let proxy = Proxy::new(settings.clone(), Arc::clone(&autha), random.clone());
        App::new()
            .app_data(web::Data::new(proxy))
            .configure(health.clone().routes(false))
            .default_service(web::to(proxy::forward))
            .wrap(from_fn(edge::edge))
    })
    .on_connect(move |connection, data| patience::watch(patience, connection, data))
    .workers(config.workers)
    .max_connections(config.connections)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(config.client_timeout)
    .client_disconnect_timeout(LINGER)
    .tcp_nodelay(true)
    .disable_signals()
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .listen(listener)?;
    Ok(server.run())
}
