//! The gateway's listeners: who may connect, what the connection tells of its other end, TLS. What is asked over it lives in `edge`.

pub mod certificates;
mod farewell;
mod last_words;
pub mod network;
mod proxy_protocol;
pub mod seat;
mod wire;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, Protocol, Request, Response, body::BoxBody, error::DispatchError};
use actix_server::{GracefulShutdownSignal, ServerBuilder};
use actix_service::{Service, ServiceFactory, ServiceFactoryExt as _, fn_service};
use ipnet::IpNet;
use orrery_web::drain::Drain;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::{
    farewell::Farewell,
    network::{Network, Networks, Prefixes},
    seat::{Peer, Seat},
    wire::{Carrier, Patience, Speech, Wire},
};

/// How long the rest of a body that is not wanted is read, so that the client sees its answer before the end.
const LINGER: Duration = Duration::from_secs(5);
/// How long a client may take nothing of an answer.
const WRITE_PAUSE: Duration = Duration::from_secs(30);
/// The window of an HTTP/2 stream and of its connection: what a client may send before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// A listener that is bound.
#[derive(Debug)]
pub enum Bound {
    /// To an address.
    Tcp(TcpListener),
    /// To a path.
    Unix(UnixListener),
}

/// Who may connect, and how.
#[derive(Clone)]
pub struct Door {
    /// Networks of proxies that are believed.
    pub trusted: Arc<[IpNet]>,
    /// Whether those begin with a PROXY header.
    pub proxy_protocol: bool,
    /// TLS, if the listener speaks it.
    pub tls: Option<TlsAcceptor>,
    /// The connections of all listeners.
    pub networks: Networks,
    /// What makes a network.
    pub prefixes: Prefixes,
    /// How long a client may take for its part of a handshake, and for the head of a request.
    pub client_timeout: Duration,
    /// How long a connection is kept for a client's next request.
    pub idle_timeout: Duration,
    /// The end of the process.
    pub drain: Drain,
}

/// Adds a listener whose requests are answered by what `application` makes in each worker.
///
/// # Errors
/// When the listener cannot be used.
pub fn listen<A, S>(
    builder: ServerBuilder,
    bound: Bound,
    door: Door,
    application: A,
) -> io::Result<ServerBuilder>
where
    A: Fn() -> S + Clone + Send + 'static,
    S: ServiceFactory<Request, Config = (), InitError = ()> + 'static,
    S::Response: Into<Response<BoxBody>> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    let signal = builder.graceful_shutdown_signal();
    match bound {
        Bound::Tcp(listener) => builder.listen("gateway", listener, move || {
            let door = Rc::new(door.clone());
            let times = (door.client_timeout, door.idle_timeout);
            fn_service(move |stream: tokio::net::TcpStream| {
                let door = Rc::clone(&door);
                async move {
                    // A head and a body's first chunk are two writes; the second must not wait for the first one's ACK.
                    stream.set_nodelay(true)?;
                    let peer = stream.peer_addr()?;
                    enter(&door, Carrier::Tcp(stream), Some(peer)).await
                }
            })
            .and_then(http(times, signal.clone(), application()))
        }),
        Bound::Unix(listener) => builder.listen_uds("gateway", listener, move || {
            let door = Rc::new(door.clone());
            let times = (door.client_timeout, door.idle_timeout);
            fn_service(move |stream: tokio::net::UnixStream| {
                let door = Rc::clone(&door);
                async move { enter(&door, Carrier::Unix(stream), None).await }
            })
            .and_then(http(times, signal.clone(), application()))
        }),
    }
}

fn http<S>(
    (client_timeout, idle_timeout): (Duration, Duration),
    signal: GracefulShutdownSignal,
    application: S,
) -> impl ServiceFactory<
    (Wire, Protocol, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
>
where
    S: ServiceFactory<Request, Config = (), InitError = ()> + 'static,
    S::Response: Into<Response<BoxBody>> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
{
    HttpService::build()
        .keep_alive(idle_timeout)
        .client_request_timeout(client_timeout)
        .client_disconnect_timeout(LINGER)
        .h2_initial_window_size(STREAM_WINDOW_BYTES)
        .h2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .graceful_shutdown_signal(move || {
            let signal = signal.clone();
            async move { signal.notified().await }
        })
        .on_connect_ext(|wire: &Wire, data| {
            data.insert(Rc::clone(wire.seat()));
        })
        .finish(application)
}

/// Lets a connection in, or not.
async fn enter(
    door: &Door,
    mut carrier: Carrier,
    from: Option<SocketAddr>,
) -> Result<(Wire, Protocol, Option<SocketAddr>), DispatchError> {
    let direct = from.map(|from| from.ip().to_canonical());
    let trusted = direct.is_none_or(|direct| trusts(&door.trusted, direct));
    let mut address = direct;
    if door.proxy_protocol && trusted {
        let header = timeout(door.client_timeout, proxy_protocol::read(&mut carrier)).await.map_err(late)?;
        let told = header.map_err(|error| refused(&error.to_string()))?;
        address = told.map(|told| told.ip().to_canonical()).or(direct);
    }
    let network = address.map_or(Network(0), |address| door.prefixes.network(address));
    // A proxy before us is many people, who are told apart by what it forwards.
    let place = if trusted && address == direct {
        None
    } else {
        Some(door.networks.enter(network).ok_or_else(|| refused("its network has too many"))?)
    };
    let (carrier, protocol) = match &door.tls {
        None => (carrier, Protocol::Http1),
        Some(acceptor) => {
            let stream = timeout(door.client_timeout, acceptor.accept(carrier)).await.map_err(late)??;
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Protocol::Http2,
                _ => Protocol::Http1,
            };
            (Carrier::Tls(Box::new(stream)), protocol)
        }
    };
    let peer = Peer { address, network, trusted };
    let seat = Rc::new(Seat::new(peer, door.tls.is_some(), place));
    let patience = Patience { idle: door.idle_timeout, write: WRITE_PAUSE };
    let speech = match protocol {
        Protocol::Http2 => Speech::Frames(Farewell::new(&door.drain)),
        _ => Speech::Text,
    };
    Ok((Wire::new(carrier, seat, patience, speech), protocol, None))
}

/// Whether an address lies in one of these networks.
pub fn trusts(trusted: &[IpNet], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

fn refused(why: &str) -> DispatchError {
    DispatchError::Io(io::Error::new(io::ErrorKind::ConnectionRefused, why.to_owned()))
}

fn late(_: tokio::time::error::Elapsed) -> DispatchError {
    DispatchError::Io(io::ErrorKind::TimedOut.into())
}
