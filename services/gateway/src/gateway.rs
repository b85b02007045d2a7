//! How the gateway is put together and started, and how its settings are replaced while it runs.

use std::{
    io,
    net::TcpListener,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use actix_server::Server;
use actix_service::{IntoServiceFactory, map_config};
use actix_web::{
    App,
    dev::AppConfig,
    http::header::HeaderValue,
    middleware::from_fn,
    web::{self, Data},
};
use orrery_bus::Bus;
use orrery_objects::Objects;
use orrery_observability::metrics;
use orrery_store::Pool;
use orrery_supervise::clock::Clock;
use orrery_supervise::random::Random;
use orrery_supervise::{Mailbox, Supervisor};
use orrery_web::health::{Dependency, Health};
use secrecy::SecretString;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::{
    acme::{self, CertificateRenewal},
    assets::Assets,
    cache::{Cache, Purge},
    challenges::Challenges,
    config::{Config, listener::Listener},
    edge::{self, Entrance},
    limit::Shared,
    listen::{
        Bound, Door,
        certificates::{CertificateError, Certificates, Files},
        listen,
        network::{Networks, Prefixes},
    },
    live::{Current, Live, LiveError},
    providers::{self, Provider},
    proxy::{self, Proxy},
    served::{Served, Way},
    upstream::{Tls, Watch},
    verify::Verifier,
};

/// How long requests that were taken in may take when the server is stopped gracefully.
const SHUTDOWN_SECONDS: u64 = 10;
/// Open files that are asked of the system: a connection is one, and so is that to an upstream.
const OPEN_FILES: u64 = 65_536;

/// What the gateway is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// The enabled services, and the way to each.
    pub served: Vec<Served>,
    /// Ids of traces.
    pub random: Random,
    /// Where replicas of the gateway count callers' requests together, if anywhere.
    pub redis: Option<SharedCounts>,
    /// The bucket, for routes that lead to files.
    pub objects: Option<Objects>,
    /// The broker, which tells of changed accounts; without it cached answers live as long as they say.
    pub bus: Option<Bus>,
    /// The time.
    pub clock: Clock,
    /// The runtime that owns every client.
    pub main: Handle,
}

/// Redis.
pub struct SharedCounts {
    /// Its address.
    pub url: SecretString,
    /// How long it may take; then a replica counts for itself.
    pub timeout: Duration,
}

/// The gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its routes contradict each other.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Upstreams that speak TLS cannot be verified.
    #[error("{0}")]
    Tls(String),
    /// A listener cannot be had.
    #[error("the gateway cannot listen on {listener}: {cause}")]
    Listen {
        /// Which.
        listener: String,
        /// Why.
        cause: io::Error,
    },
}

/// The gateway, put together and not yet listening.
pub struct Gateway {
    control: Control,
    tls: Option<Tls>,
    certificates: Vec<Option<Arc<Certificates>>>,
    challenges: Challenges,
    networks: Networks,
    places: Arc<Semaphore>,
    random: Random,
    assets: Option<Assets>,
    cache: Option<Cache>,
    bus: Option<Bus>,
    verifier: Verifier,
    clock: Clock,
}

/// Replaces the settings of a running gateway.
#[derive(Clone)]
pub struct Control {
    current: Current,
    served: Arc<[Served]>,
    shared: Option<Arc<Shared>>,
    /// Held while settings are replaced, so that none of two changes is lost.
    replacing: Arc<Mutex<()>>,
}

impl Gateway {
    /// Makes the tables from the services' tables and the configured routes, and reads the certificates.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, served, random, redis, objects, bus, clock, main } = parts;
        let shared = redis.map(|redis| Arc::new(Shared::new(redis.url, redis.timeout, main.clone())));
        let live = Live::new(config, &served, None, shared.as_ref(), None)?;
        let config = &live.config;
        let tls = if config.has_tls_upstream() || config.providers.enabled {
            Some(Tls::new(config.upstream_ca_file.as_deref()).map_err(StartError::Tls)?)
        } else {
            None
        };
        let certificates = config
            .listeners()
            .iter()
            .map(|listener| listener.tls.as_ref().map(Certificates::new).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tls,
            certificates,
            challenges: Challenges::default(),
            networks: Networks::new(config.network_connections),
            places: Arc::new(Semaphore::new(config.requests)),
            random,
            cache: (config.cache.bytes > 0)
                .then(|| Cache::new(config.cache.bytes, config.cache.answer_bytes, clock.clone())),
            bus,
            verifier: Verifier::new(config.verify.clone(), clock.clone()),
            clock,
            assets: objects.map(|objects| Assets { objects, main }),
            control: Control {
                current: Current::new(live),
                served: served.into(),
                shared,
                replacing: Arc::default(),
            },
        })
    }

    /// What replaces its settings later.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The services in other processes: of each one replica at least is to be ready.
    pub fn dependencies(&self) -> Vec<Dependency> {
        let elsewhere = |service: &&Served| matches!(service.way, Way::Upstreams(_));
        let dependency = |service: &Served| {
            let (name, current) = (service.name, self.control.current.clone());
            // Without autha nobody can do anything; without another service its own routes are answered 503.
            Dependency::new(name, name == "autha", move || {
                let pools = current.get().pools();
                let away = pools.iter().find(|pool| pool.settings.name == name).map(|pool| pool.away());
                async move { away.unwrap_or_else(|| Some("it has no address".to_owned())).map_or(Ok(()), Err) }
            })
        };
        self.control.served.iter().filter(elsewhere).map(dependency).collect()
    }

    /// Starts what keeps the table of service providers true, by connections of the gateway's role. Where nothing but their table is served, the
    /// process is not ready before it is known.
    pub fn register(&self, pool: Pool, supervisor: &Supervisor) -> Dependency {
        let live = self.control.current.get();
        let is_known = Arc::new(AtomicBool::new(false));
        let watch = providers::Watch {
            control: self.control(),
            pool,
            settings: live.config.providers.clone(),
            is_known: Arc::clone(&is_known),
        };
        supervisor.start_actor("gateway.providers", Mailbox::own_work(1), move || watch.clone());
        let is_alone = live.config.listeners().iter().all(|listener| !listener.role.serves_services());
        Dependency::new("providers", is_alone, move || {
            let is_known = is_known.load(Ordering::Acquire);
            let unknown = "the table of service providers was not read yet; PostgreSQL has to answer";
            async move { if is_known { Ok(()) } else { Err(unknown.to_owned()) } }
        })
    }

    /// Starts what keeps the pools and the certificates true.
    pub fn start(&self, supervisor: &Supervisor) {
        let own_work = Mailbox::own_work(1);
        let watch = Watch { pools: self.control.current.pools(), tls: self.tls.clone() };
        supervisor.start_actor("gateway.upstreams", own_work, move || watch.clone());
        let listeners = self.control.current.get().config.listeners();
        let roles = listeners.iter().map(|listener| listener.role.as_str());
        let named: Vec<_> = roles
            .zip(self.certificates.clone())
            .filter_map(|(role, certificates)| Some((role, certificates?)))
            .collect();
        if !named.is_empty() {
            let clock = self.clock.clone();
            metrics::observe_certificates(move || remaining(&named, clock.now().timestamp()));
        }
        for (at, listener) in listeners.into_iter().enumerate() {
            let certificates = self.certificates.get(at).cloned().flatten();
            let (Some(tls), Some(certificates)) = (listener.tls, certificates) else { continue };
            if let Some(acme) = tls.acme {
                let renewal = CertificateRenewal {
                    certificates: Arc::clone(&certificates),
                    acme,
                    challenges: self.challenges.clone(),
                    clock: self.clock.clone(),
                };
                // An order waits for the authority.
                supervisor.start_actor_within(
                    format!("gateway.acme.{at}"),
                    own_work,
                    acme::LIMIT,
                    move || renewal.clone(),
                );
            }
            let files = Files::new(certificates);
            supervisor.start_actor(format!("gateway.certificates.{at}"), own_work, move || files.clone());
        }
        if let (Some(cache), Some(bus)) = (self.cache.clone(), self.bus.clone()) {
            let purge = Purge { cache, bus, random: self.random.clone() };
            supervisor.start_actor("gateway.cache", own_work, move || purge.clone());
        }
    }

    /// The server, bound to every configured listener; it runs once it is awaited, and stops by its handle alone.
    ///
    /// # Errors
    /// When a listener cannot be had.
    pub fn listen(&self, health: &Health) -> Result<Server, StartError> {
        let mut bound = Vec::new();
        for listener in self.control.current.get().config.listeners() {
            let taken =
                bind(&listener).map_err(|cause| StartError::Listen { listener: name(&listener), cause })?;
            bound.push((listener, taken));
        }
        self.listen_on(bound, health)
    }

    /// The server on one listener that is already bound, whatever the configuration says of its address.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn listen_tcp(&self, bound: TcpListener, health: &Health) -> Result<Server, StartError> {
        let listener = self.control.current.get().config.listeners().into_iter().next().unwrap_or_default();
        self.listen_on(vec![(listener, Bound::Tcp(bound))], health)
    }

    fn listen_on(&self, bound: Vec<(Listener, Bound)>, health: &Health) -> Result<Server, StartError> {
        if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
            warn!(%error, "the limit of open files cannot be raised");
        }
        let live = self.control.current.get();
        let config = &live.config;
        let mut builder = Server::build()
            .workers(config.workers)
            .max_concurrent_connections(config.connections)
            .disable_signals()
            .shutdown_timeout(SHUTDOWN_SECONDS);
        for (at, (listener, taken)) in bound.into_iter().enumerate() {
            let described = name(&listener);
            let prefixes = Prefixes { ipv4: config.rates.ipv4_prefix, ipv6: config.rates.ipv6_prefix };
            let trusted: Arc<[_]> = listener.trusted.as_slice().into();
            let certificates = self.certificates.get(at).and_then(Option::as_ref);
            let tls = certificates.map(Certificates::server).transpose()?;
            let door = Door {
                trusted: Arc::clone(&trusted),
                proxy_protocol: listener.proxy_protocol,
                tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
                networks: self.networks.clone(),
                prefixes,
                client_timeout: config.client_timeout,
                idle_timeout: config.idle_timeout,
                drain: health.drain().clone(),
            };
            if let Bound::Tcp(listener) = &taken {
                door.drain
                    .watch(listener)
                    .map_err(|cause| StartError::Listen { listener: described.clone(), cause })?;
            }
            let hsts = listener.tls.as_ref().map(|tls| tls.hsts.as_secs()).filter(|seconds| *seconds > 0);
            let entrance = Data::new(Entrance {
                role: listener.role,
                health: listener.health.clone(),
                trusted,
                prefixes,
                hsts: hsts.and_then(|seconds| HeaderValue::from_str(&format!("max-age={seconds}")).ok()),
                current: self.control.current.clone(),
                places: Arc::clone(&self.places),
                challenges: self.challenges.clone(),
                random: self.random.clone(),
                drain: health.drain().clone(),
            });
            let (settings, served) = (config.clone(), Arc::clone(&self.control.served));
            let (upstream_tls, assets, health) = (self.tls.clone(), self.assets.clone(), health.clone());
            let (cache, verifier) = (self.cache.clone(), Data::new(self.verifier.clone()));
            let application = move || {
                let proxy =
                    Proxy::new(&settings, &served, upstream_tls.clone(), assets.clone(), cache.clone());
                let app = App::new()
                    .app_data(Data::new(proxy))
                    .app_data(entrance.clone())
                    .app_data(verifier.clone())
                    .configure(health.clone().routes(false))
                    .route("/auth/verify", web::route().to(proxy::verify))
                    .default_service(web::to(proxy::forward))
                    .wrap(from_fn(edge::edge));
                map_config(app.into_factory(), |()| AppConfig::default())
            };
            builder = listen(builder, taken, door, application)
                .map_err(|cause| StartError::Listen { listener: described, cause })?;
        }
        Ok(builder.run())
    }
}

impl Control {
    /// Replaces routes, upstreams, budgets and origins, for every request from now on. Listeners and workers stay as they are.
    ///
    /// # Errors
    /// When the settings cannot be used; those in use stay.
    pub fn reload(&self, config: Config) -> Result<(), StartError> {
        let _alone = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.get();
        if config.has_tls_upstream() && !before.config.has_tls_upstream() && !before.config.providers.enabled
        {
            return Err(StartError::Tls(
                "gateway: the first upstream by https needs a restart, in which authorities are read"
                    .to_owned(),
            ));
        }
        if config.listeners() != before.config.listeners() || config.workers != before.config.workers {
            warn!("listeners and workers are changed by a restart only; the rest of the settings is taken");
        }
        let live = Live::new(config, &self.served, Some(&before), self.shared.as_ref(), None)?;
        self.current.replace(live);
        info!("the gateway's settings were replaced");
        Ok(())
    }

    /// Replaces the service providers, for every request from now on.
    ///
    /// # Errors
    /// When their routes cannot be told apart; those in use stay.
    pub fn provide(&self, registered: Vec<providers::Settings>) -> Result<(), LiveError> {
        let _alone = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.get();
        let config = before.config.clone();
        let live = Live::new(config, &self.served, Some(&before), self.shared.as_ref(), Some(registered))?;
        self.current.replace(live);
        Ok(())
    }

    /// The service providers.
    pub fn providers(&self) -> Vec<Arc<Provider>> {
        self.current.get().providers.clone()
    }
}

/// Whether the settings can be used, as far as that can be told without listening: `orrery check` asks.
///
/// # Errors
/// A line for the operator.
pub fn check(config: &Config, served: &[Served]) -> Result<(), StartError> {
    let live = Live::new(config.clone(), served, None, None, None)?;
    for listener in live.config.listeners() {
        listener.tls.as_ref().map(Certificates::new).transpose()?;
    }
    if live.config.has_tls_upstream() {
        Tls::new(live.config.upstream_ca_file.as_deref()).map_err(StartError::Tls)?;
    }
    Ok(())
}

fn bind(listener: &Listener) -> io::Result<Bound> {
    match (&listener.address, &listener.socket) {
        (Some(address), _) => TcpListener::bind(address).map(Bound::Tcp),
        (None, Some(path)) => {
            remove_stale(path)?;
            UnixListener::bind(path).map(Bound::Unix)
        }
        (None, None) => Err(io::Error::other("it has neither an address nor a socket")),
    }
}

/// A socket that a killed process left behind cannot be bound again.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn name(listener: &Listener) -> String {
    match (&listener.address, &listener.socket) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => "nothing".to_owned(),
    }
}
/// For how long the certificates of each role are still valid, in seconds; of several the one that ends first.
fn remaining(listeners: &[(&'static str, Arc<Certificates>)], now: i64) -> Vec<(&'static str, f64)> {
    let mut first: Vec<(&'static str, i64)> = Vec::new();
    for (role, end) in listeners.iter().filter_map(|(role, of)| Some((*role, of.end()?))) {
        match first.iter_mut().find(|(known, _)| *known == role) {
            Some((_, earliest)) => *earliest = end.min(*earliest),
            None => first.push((role, end)),
        }
    }
    // Far below what a float cannot tell apart: a year has 32 million seconds.
    let left = |end: i64| i32::try_from(end - now).map_or(f64::from(i32::MAX), f64::from);
    first.into_iter().map(|(role, end)| (role, left(end))).collect()
}
