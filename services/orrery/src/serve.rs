//! `orrery serve`: one process with the named services, from its first listener to the last flushed row.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use actix_rt::System;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::header, web};
use anyhow::{Context as _, bail};
use orrery_broker_admin::topology::{Topology, watch::Watch};
use orrery_bus::{
    Bus, HandlerSpec,
    archiver::Archiver,
    bridge::ForeignQueue,
    quarantine::{ChildCommand, Quarantine},
};
use orrery_config::{Source, listen::Internal};
use orrery_console::access::{Access, Kind};
use orrery_observability::{
    Log,
    metrics::{self, ActorFigures},
    set_level,
};
use orrery_schemas::problems::Code;
use orrery_service::{BrokerNeed, Context, Enabled, Installation, Local, Mails, Peer};
use orrery_store::{Pool, migrations, pruner::Pruner};
use orrery_supervise::{
    ActorState, ActorStatus, Shutdown, ShutdownTrigger, Supervisor, clock::Clock, random::Random,
};
use orrery_web::{
    health::{Dependency, Described, Health},
    problem::Problem,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

use crate::{
    changed::Changed,
    check,
    config::{Config, Configured},
    keys,
    services::SERVICES,
    wiring,
};

/// How often a key that does not fit is compared again: somebody may restore the database meanwhile.
const KEYS_AGAIN: Duration = Duration::from_secs(2);

/// What the services of a process share.
struct Process {
    config: Arc<Config>,
    main: &'static Runtime,
    bus: Bus,
    random: Random,
    supervisor: Supervisor,
    /// Told at the beginning of the end, before the listeners are stopped.
    stopping: (ShutdownTrigger, Shutdown),
    /// Why the services wait for the database, until it has this version's schema and all have started.
    started: watch::Sender<Option<String>>,
    /// Runs the process of a quarantine queue.
    quarantine: ChildCommand,
    /// Where the settings came from, beside the environment.
    file: Option<PathBuf>,
}

/// A service that this process runs.
struct Running<'a> {
    configured: &'a Configured,
    pool: Option<Pool>,
    local: Local,
}

/// Runs until SIGTERM or Ctrl-C.
pub fn serve(
    config: Config,
    file: Option<PathBuf>,
    named: &[String],
    quarantine: ChildCommand,
) -> anyhow::Result<ExitCode> {
    let main = wiring::main_runtime()?;
    let random = Random::system()?;
    let supervisor = Supervisor::new(main, random.clone(), wiring::limits(&config.shared))
        .context("the watchdog's thread cannot be started")?;
    observe(supervisor.clone());
    let process = Process {
        bus: Bus::new(config.shared.broker.clone()),
        supervisor,
        random,
        main,
        config: Arc::new(config),
        stopping: ShutdownTrigger::new(),
        started: watch::Sender::new(Some("the database was not looked at yet".to_owned())),
        quarantine,
        file,
    };
    System::with_tokio_rt(|| main).block_on(process.run(named))
}

impl Process {
    async fn run(self, named: &[String]) -> anyhow::Result<ExitCode> {
        let running = self.running(named)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut changed = Changed::new(self.file.clone())?;
        let runs = |name: &&str| running.iter().any(|service| service.configured.name() == *name);
        let (names, missing): (Vec<_>, Vec<_>) = crate::services::names().into_iter().partition(runs);
        info!(services = names.join(","), left_out = missing.join(","), "starting");
        metrics::begin(&names, &self.handlers(&running));
        let health = Health::new(self.dependencies(&running)?, self.supervisor.clone());
        let mut servers: Vec<ServerHandle> = Vec::new();
        health.describe(Described { version: env!("CARGO_PKG_VERSION"), services: names.clone() });
        self.listen(
            &mut servers,
            internal(&self.config, health.clone(), self.supervisor.clone())?,
            "internal",
        );

        // What needs no database is there at once, and answers for the rest.
        for service in running.iter().filter(|service| service.pool.is_none()) {
            self.start(service, &running, &health, &mut servers)?;
        }
        if running.iter().any(|service| service.pool.is_some()) {
            tokio::select! {
                () = self.database_is_ours() => {}
                _ = terminate.recv() => return self.stop(&health, terminate, servers).await,
                _ = tokio::signal::ctrl_c() => return self.stop(&health, terminate, servers).await,
            }
        }
        // Before, nobody has asked the broker for anything.
        health.add(self.broker(&running));
        for service in running.iter().filter(|service| service.pool.is_some()) {
            self.start(service, &running, &health, &mut servers)?;
        }
        self.queues(&running);
        self.pruner(&running);
        self.started.send_replace(None);
        info!("started");

        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    info!("SIGTERM: stopping");
                    break;
                }
                _ = tokio::signal::ctrl_c() => {
                    info!("Ctrl-C: stopping");
                    break;
                }
                () = changed.next() => self.reload(&running),
            }
        }
        self.stop(&health, terminate, servers).await
    }

    /// Waits until the database has this version's schema and knows our keys: nothing is to be written under another one.
    async fn database_is_ours(&self) {
        let mut log = waiting();
        let mut tell = |fault: &str| {
            log(fault);
            self.started.send_replace(Some(fault.to_owned()));
        };
        loop {
            migrations::wait(&self.config.shared.database, &mut tell).await;
            match keys::hold(&self.config).await {
                Ok(()) => return,
                Err(error) => tell(&error.to_string()),
            }
            tokio::time::sleep(KEYS_AGAIN).await;
        }
    }

    /// Gives the services their settings again; what cannot be used changes nothing.
    fn reload(&self, running: &[Running<'_>]) {
        let source = match Source::read(self.file.as_deref()) {
            Ok(source) => source,
            Err(error) => {
                error!(%error, "the settings cannot be read; those before stay");
                return;
            }
        };
        match source.section::<Log>("log") {
            Ok(log) => {
                if let Err(error) = set_level(&log.level) {
                    error!(%error, "the level of the log stays");
                }
            }
            Err(error) => error!(%error, "the level of the log stays"),
        }
        for service in running {
            if let Err(error) = service.configured.service.reload(&source) {
                error!(service = service.configured.name(), %error, "the new settings cannot be used; those before stay");
            }
        }
    }

    /// The services to run, each with a pool where it has a database role.
    fn running(&self, named: &[String]) -> anyhow::Result<Vec<Running<'_>>> {
        let enabled = self.config.enabled_names();
        if let Some(off) = named.iter().find(|name| !enabled.contains(&name.as_str())) {
            bail!(
                "{off} is not among the enabled services: add it to 'services' (ORRERY_SERVICES), so that its queues are made"
            );
        }
        let wanted = |name: &str| named.is_empty() || named.iter().any(|wanted| wanted == name);
        let chosen = self.config.enabled().filter(|configured| wanted(configured.name()));
        chosen
            .map(|configured| {
                let pool = if configured.service.needs(&self.config.shared).database {
                    let main = self.main.handle().clone();
                    Some(Pool::new(&self.config.shared.database, configured.definition.service, main)?)
                } else {
                    None
                };
                Ok(Running { configured, pool, local: Arc::new(OnceLock::new()) })
            })
            .collect()
    }

    /// What the definitions say that this process needs; a service adds its own when it starts.
    fn dependencies(&self, running: &[Running<'_>]) -> anyhow::Result<Vec<Dependency>> {
        let needs: Vec<_> =
            running.iter().map(|service| service.configured.service.needs(&self.config.shared)).collect();
        let mut dependencies = Vec::new();
        let pools: Vec<_> = running
            .iter()
            .filter_map(|service| Some((service.configured.name(), service.pool.clone()?)))
            .collect();
        if let Some((_, pool)) = pools.first() {
            dependencies.push(wiring::postgresql(pool.clone()));
            if pools.len() > 1 {
                dependencies.push(wiring::pools(pools.clone()));
            }
            let started = self.started.subscribe();
            dependencies.push(Dependency::new("migrations", true, move || {
                let waits_for = started.borrow().clone();
                async move { waits_for.map_or(Ok(()), Err) }
            }));
        }
        if needs.iter().any(|needs| needs.storage) {
            dependencies.push(wiring::storage(&self.config.shared)?);
        }
        Ok(dependencies)
    }

    /// The broker, where a service needs it.
    fn broker(&self, running: &[Running<'_>]) -> Vec<Dependency> {
        let needs =
            running.iter().map(|service| service.configured.service.needs(&self.config.shared).broker);
        let least = needs.filter(|need| *need != BrokerNeed::None).min();
        least
            .map(|least| wiring::rabbitmq(&self.bus, least == BrokerNeed::Required).into())
            .unwrap_or_default()
    }

    fn start(
        &self,
        service: &Running<'_>,
        running: &[Running<'_>],
        health: &Health,
        servers: &mut Vec<ServerHandle>,
    ) -> anyhow::Result<()> {
        let local = |configured: &Configured| {
            let here = running.iter().find(|service| service.configured.name() == configured.name());
            here.map(|service| Arc::clone(&service.local))
        };
        let peers = self.config.enabled().filter(|configured| !configured.definition.routes.is_empty());
        let context = Context {
            shared: Arc::clone(&self.config.shared),
            main: self.main,
            supervisor: self.supervisor.clone(),
            stopping: self.stopping.1.clone(),
            dependencies: service
                .pool
                .clone()
                .map(|pool| wiring::dependencies(&self.bus, pool, &self.random)),
            health: health.clone(),
            peers: peers
                .map(|configured| Peer {
                    service: configured.definition.service,
                    routes: configured.definition.routes,
                    local: local(configured),
                })
                .collect(),
            installation: self.installation(running),
        };
        let name = service.configured.name();
        let started =
            service.configured.service.start(&context).with_context(|| format!("{name} cannot start"))?;
        health.add(started.dependencies);
        if let Some(application) = started.application {
            service.local.get_or_init(|| application);
        }
        for (name, server) in started.servers {
            self.listen(servers, server, name);
        }
        Ok(())
    }

    /// What an operator is shown of the installation.
    fn installation(&self, running: &[Running<'_>]) -> Installation {
        let shared = &self.config.shared;
        let is_here = |name: &str| running.iter().any(|service| service.configured.name() == name);
        let services = self.config.enabled().map(|configured| Enabled {
            name: configured.name(),
            about: configured.definition.about,
            is_here: is_here(configured.name()),
            handlers: configured.service.handlers(shared),
            bridges: configured.service.bridges(shared),
        });
        let (checked, written) = (Arc::clone(&self.config), Arc::clone(&self.config));
        Installation {
            services: services.collect(),
            bridge_queues: SERVICES.iter().flat_map(|definition| definition.bridge_queues).copied().collect(),
            check: Arc::new(move || {
                let config = Arc::clone(&checked);
                Box::pin(async move { check::lines(&config).await })
            }),
            advice: self.config.enabled().flat_map(|configured| configured.service.advice()).collect(),
            mails: Arc::new(move || {
                let config = Arc::clone(&written);
                Box::pin(async move { mails(&config) })
            }),
            webhooks: self.config.enabled().find_map(|configured| configured.service.webhooks()),
        }
    }

    /// What stands behind this process's handlers: their dead letters, and the messages that ended a process.
    fn queues(&self, running: &[Running<'_>]) {
        let handlers = self.handlers(running);
        let Some(pool) = running.iter().find_map(|service| service.pool.clone()) else { return };
        let dependencies = wiring::dependencies(&self.bus, pool, &self.random);
        self.watch(running);
        Archiver::start(&self.supervisor, dependencies, self.specs(running), self.config.bridges());
        let command = Arc::clone(&self.quarantine);
        Quarantine::start(&self.supervisor, self.bus.clone(), handlers.to_vec(), command);
    }

    /// Looks at the queues of this process's handlers and bridges, and at the exchanges.
    fn watch(&self, running: &[Running<'_>]) {
        let specs = self.specs(running);
        let mut wanted = Topology::wanted(&specs, &[], false);
        let mut legacy = Vec::new();
        for bridge in self.config.bridges() {
            if specs.iter().any(|spec| spec.name == bridge.handler) {
                match bridge.queue_kind {
                    ForeignQueue::Ingress(key) => wanted.bridge(bridge.queue, key),
                    ForeignQueue::Legacy => legacy.push(bridge.queue),
                }
            }
        }
        Watch::start(&self.supervisor, self.bus.clone(), wanted, &legacy);
    }

    /// What this process's handlers no longer need.
    fn pruner(&self, running: &[Running<'_>]) {
        let handlers = self.handlers(running);
        let bridges = self.config.bridges().into_iter().filter(|spec| handlers.contains(&spec.handler));
        let handlers: Vec<_> = handlers.iter().copied().chain(bridges.map(|spec| spec.queue)).collect();
        let Some(pool) = running.iter().find_map(|service| service.pool.clone()) else { return };
        Pruner::start(&self.supervisor, pool, handlers, self.config.shared.retention.clone());
    }

    fn handlers(&self, running: &[Running<'_>]) -> Arc<[&'static str]> {
        self.specs(running).into_iter().map(|spec| spec.name).collect()
    }

    fn specs(&self, running: &[Running<'_>]) -> Vec<HandlerSpec> {
        let shared = &self.config.shared;
        running.iter().flat_map(|service| service.configured.service.handlers(shared)).collect()
    }

    fn listen(&self, servers: &mut Vec<ServerHandle>, server: actix_web::dev::Server, name: &'static str) {
        servers.push(server.handle());
        actix_rt::spawn(async move {
            if let Err(error) = server.await {
                error!(name, %error, "a listener ended");
            }
        });
    }

    async fn stop(
        &self,
        health: &Health,
        mut terminate: Signal,
        mut servers: Vec<ServerHandle>,
    ) -> anyhow::Result<ExitCode> {
        let Internal { drain_delay, grace, .. } = self.config.shared.internal;
        health.drain().begin();
        if !drain_delay.is_zero() {
            info!(?drain_delay, "draining");
            tokio::select! {
                () = tokio::time::sleep(drain_delay) => {}
                // Whoever asks twice is in a hurry.
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        let begun = Instant::now();
        self.stopping.0.shutdown_within(grace);
        let drain = async {
            health.drain().close_doors().await;
            // The door first, then what stands behind it: the last pushed is behind the ones before. The first of all is the operators', who are told to
            // the end that this process drains.
            let operators = (!servers.is_empty()).then(|| servers.remove(0));
            for server in servers.into_iter().chain(operators) {
                server.stop(true).await;
            }
        };
        if tokio::time::timeout(grace / 2, drain).await.is_err() {
            warn!("requests were still at work when their grace was over");
        }
        self.supervisor.shutdown_within(grace.saturating_sub(begun.elapsed())).await;
        info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// What the enabled services write to people: one of them does.
fn mails(config: &Config) -> Result<Option<Mails>, String> {
    for configured in config.enabled() {
        if let Some(mails) = configured.service.mails()? {
            return Ok(Some(mails));
        }
    }
    Ok(None)
}

/// Tells once what is waited for, and again when it changes.
fn waiting() -> impl FnMut(&str) {
    let mut told = String::new();
    move |fault| {
        if told != fault {
            warn!(fault, "waiting for the database");
            fault.clone_into(&mut told);
        }
    }
}

fn internal(
    config: &Config,
    health: Health,
    supervisor: Supervisor,
) -> anyhow::Result<actix_web::dev::Server> {
    let listen = config.shared.internal.listen;
    let restarts = web::Data::new(Restarts { access: restart_access(config), supervisor });
    let server = HttpServer::new(move || {
        App::new()
            .configure(health.clone().routes(true))
            .app_data(web::Data::clone(&restarts))
            .route("/health/actors/{actor}/restart", web::post().to(restart))
            .route("/metrics", web::get().to(metrics_page))
            .default_service(web::to(|| async {
                Err::<&str, _>(Problem::new(
                    Code::NotFound,
                    "health is at /health/live, /health/ready and /health/actors, metrics are at /metrics",
                ))
            }))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .bind(listen)
    .with_context(|| format!("the listener for operators cannot have {listen}: change internal.listen"))?;
    Ok(server.run())
}

/// Whom a restart is done for.
struct Restarts {
    /// Opens what a console shows; none where this process has not the console's key.
    access: Option<Access>,
    supervisor: Supervisor,
}

/// The console's key, where this process was given it.
fn restart_access(config: &Config) -> Option<Access> {
    let section: orrery_console::config::Config =
        config.source.section(orrery_console::CONSOLE.name()).ok()?;
    Access::new(&section.ring(&config.shared.keys).ok()?).ok()
}

/// Restarts an actor for a console of this installation, which proves by its key that an operator asked for it.
async fn restart(
    request: HttpRequest,
    restarts: web::Data<Restarts>,
    actor: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let refused =
        || Problem::new(Code::Forbidden, "only a console of this installation may restart an actor");
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
    let access = restarts.access.as_ref().ok_or_else(refused)?;
    access.open(Kind::Process, shown, Clock::System.now()).ok_or_else(refused)?;
    if restarts.supervisor.restart(&actor, "an operator asked for a restart") {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(Problem::new(Code::NotFound, "no such actor runs at present"))
}

async fn metrics_page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = metrics::Format::asked(accept.unwrap_or_default());
    let page = metrics::page(format).map_err(|error| {
        error!(%error, "the metrics cannot be shown");
        Problem::new(Code::Internal, "the metrics cannot be shown")
    })?;
    Ok(HttpResponse::Ok().content_type(format.content_type()).body(page))
}

/// What the supervisor knows, as metrics.
fn observe(supervisor: Supervisor) {
    metrics::observe_actors(move || {
        let figures = |actor: ActorStatus| ActorFigures {
            running: actor.state == ActorState::Running,
            name: actor.name,
            restarts: actor.restarts,
            waiting: actor.waiting,
            at_work: actor.at_work,
            capacity: actor.capacity,
            concurrency: actor.concurrency,
            refused: actor.refused,
            failures: actor.failures,
        };
        supervisor.status().into_iter().map(figures).collect()
    });
}
