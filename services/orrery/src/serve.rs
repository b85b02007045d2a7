//! `orrery serve`: one process with the named services, from its first listener to the last flushed row.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::{Arbiter, System};
use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use anyhow::{Context, bail};
use orrery_actors::{
    bus::{
        Bus, Footing, HandlerSpec,
        archiver::Archiver,
        quarantine::{ChildCommand, Quarantine},
    },
    objects::Objects,
    random::Random,
    store::{Pool, migrations, pruner::Pruner},
    supervise::{ChildState, ChildStatus, Supervisor},
    web::{
        health::{Dependency, Health},
        problem::Problem,
    },
};
use orrery_autha::KeySet;
use orrery_observability::metrics::{self, ActorFigures};
use orrery_schemas::{problems::Code, services::Service};
use tokio::{runtime::Runtime, sync::watch};
use tracing::{error, info, warn};

use crate::{config::Config, parts, wiring};

/// What the services of a process share.
struct House {
    config: Config,
    main: &'static Runtime,
    bus: Bus,
    random: Random,
    supervisor: Supervisor,
    /// Autha's signing keys, which it loads.
    keys: KeySet,
    /// Turns true when the database has this version's schema.
    migrated: watch::Sender<bool>,
    /// Runs the process of a quarantine lane.
    quarantine: ChildCommand,
}

/// Runs until SIGTERM or Ctrl-C.
pub fn serve(config: Config, named: &[Service], quarantine: ChildCommand) -> anyhow::Result<ExitCode> {
    let services = chosen(&config, named)?;
    let main = wiring::main_runtime()?;
    let random = Random::system()?;
    let supervisor = Supervisor::new(main, random.clone(), wiring::limits(&config))
        .context("the watchdog's thread cannot be started")?;
    observe(supervisor.clone());
    let house = House {
        bus: Bus::new(config.broker.clone()),
        supervisor,
        random,
        main,
        config,
        keys: KeySet::default(),
        migrated: watch::Sender::new(false),
        quarantine,
    };
    System::with_tokio_rt(|| main).block_on(house.run(services))
}

fn chosen(config: &Config, named: &[Service]) -> anyhow::Result<Vec<Service>> {
    if let Some(off) = named.iter().find(|service| !config.enables(**service)) {
        bail!(
            "{off} is not among the enabled services: add it to 'services' (ORRERY_SERVICES), so that its queues are made"
        );
    }
    let wanted = if named.is_empty() { &config.services.0 } else { named };
    Ok(Service::ALL.into_iter().filter(|service| wanted.contains(service)).collect())
}

impl House {
    async fn run(self, services: Vec<Service>) -> anyhow::Result<ExitCode> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let missing: Vec<_> =
            Service::ALL.iter().filter(|s| !services.contains(s)).map(|s| s.name()).collect();
        info!(
            services = services.iter().map(|service| service.name()).collect::<Vec<_>>().join(","),
            left_out = missing.join(","),
            "starting"
        );
        let pools = self.pools(&services)?;
        let health = Health::new(self.dependencies(&services, &pools)?, self.supervisor.clone());
        let mut servers: Vec<ServerHandle> = Vec::new();
        self.listen(&mut servers, internal(&self.config, health.clone())?, "internal");

        if services.contains(&Service::Gateway) {
            let server = orrery_gateway::server(&self.config.gateway, health.clone(), self.random.clone())
                .with_context(|| format!("the gateway cannot listen on {}", self.config.gateway.listen))?;
            self.listen(&mut servers, server, "gateway");
        }
        if services.iter().any(|service| *service != Service::Gateway) {
            tokio::select! {
                () = migrations::wait(&self.config.database, waiting()) => {}
                _ = terminate.recv() => return self.stop(servers).await,
                _ = tokio::signal::ctrl_c() => return self.stop(servers).await,
            }
        }
        self.migrated.send_replace(true);
        for (service, pool) in &pools {
            match service {
                Service::Autha => {
                    let server = self.autha(pool, health.clone())?;
                    self.listen(&mut servers, server, "autha");
                }
                Service::Spinoza => self.spinoza(pool)?,
                Service::Maily => self.maily(pool)?,
                Service::Gateway => {}
            }
        }
        self.lanes(&pools);
        self.pruner(&pools);
        info!("started");

        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = tokio::signal::ctrl_c() => info!("Ctrl-C: stopping"),
        }
        self.stop(servers).await
    }

    /// A pool for each service with a database role.
    fn pools(&self, services: &[Service]) -> anyhow::Result<Vec<(Service, Pool)>> {
        services
            .iter()
            .filter(|service| **service != Service::Gateway)
            .map(|service| {
                let pool = Pool::new(&self.config.database, *service, self.main.handle().clone())?;
                Ok((*service, pool))
            })
            .collect()
    }

    fn dependencies(
        &self,
        services: &[Service],
        pools: &[(Service, Pool)],
    ) -> anyhow::Result<Vec<Dependency>> {
        let runs = |service| services.contains(&service);
        let mut dependencies = Vec::new();
        if let Some((_, pool)) = pools.first() {
            dependencies.push(wiring::postgresql(pool.clone()));
            let migrated = self.migrated.subscribe();
            dependencies.push(Dependency::new("migrations", true, move || {
                let done = *migrated.borrow();
                async move { done }
            }));
            dependencies.push(wiring::rabbitmq(self.bus.clone(), !runs(Service::Autha)));
        }
        if runs(Service::Autha) {
            let keys = self.keys.clone();
            dependencies.push(Dependency::new("signing keys", true, move || {
                let loaded = keys.is_loaded();
                async move { loaded }
            }));
        }
        if runs(Service::Autha) || runs(Service::Spinoza) {
            dependencies.push(wiring::storage(self.objects()?));
        }
        if runs(Service::Gateway) && !runs(Service::Autha) {
            // Upstreams are plain HTTP: without the system's authorities, which may lack, and take memory.
            let client = reqwest::Client::builder().tls_certs_only([]).build()?;
            let upstreams = self.config.gateway.autha.clone();
            dependencies.push(Dependency::new("autha", true, move || {
                let (client, upstreams) = (client.clone(), upstreams.clone());
                async move {
                    for upstream in upstreams {
                        let Ok(url) = upstream.join("/health/ready") else { continue };
                        if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                            return true;
                        }
                    }
                    false
                }
            }));
        }
        Ok(dependencies)
    }

    fn objects(&self) -> anyhow::Result<Objects> {
        Ok(Objects::new(&self.config.storage)?)
    }

    fn footing(&self, pool: &Pool) -> Footing {
        parts::footing(&self.bus, pool.clone(), &self.random)
    }

    fn autha(&self, pool: &Pool, health: Health) -> anyhow::Result<actix_web::dev::Server> {
        let arbiter = Arbiter::with_tokio_rt({
            let main = self.main;
            move || main
        });
        let main = self.main.handle().clone();
        let parts = parts::autha(&self.config, self.footing(pool), self.keys.clone(), main)?;
        let listen = parts.config.listen;
        orrery_autha::Autha::start(parts, &self.supervisor, arbiter, health)
            .map(|autha| autha.server)
            .with_context(|| format!("autha cannot start on {listen}"))
    }

    fn spinoza(&self, pool: &Pool) -> anyhow::Result<()> {
        orrery_spinoza::start(&parts::spinoza(&self.config, self.footing(pool))?, &self.supervisor);
        Ok(())
    }

    fn maily(&self, pool: &Pool) -> anyhow::Result<()> {
        Ok(orrery_maily::start(&parts::maily(&self.config, self.footing(pool))?, &self.supervisor)?)
    }

    /// What stands behind this process's handlers: their dead letters, and the messages that ended a process.
    fn lanes(&self, pools: &[(Service, Pool)]) {
        let handlers = self.handlers(pools);
        let Some((_, pool)) = pools.first() else { return };
        let (footing, specs, bridges) =
            (self.footing(pool), self.specs(pools), wiring::bridges(&self.config));
        let signal = self.supervisor.shutdown_signal();
        self.supervisor.start("archiver", move |pulse| {
            Archiver {
                footing: footing.clone(),
                handlers: specs.clone(),
                bridges: bridges.clone(),
                pulse,
                shutdown: signal.clone(),
            }
            .run()
        });
        let (bus, command) = (self.bus.clone(), Arc::clone(&self.quarantine));
        let signal = self.supervisor.shutdown_signal();
        // How long its process may take for a message is that process's own matter.
        self.supervisor.start_within("quarantine", Duration::MAX, move |pulse| {
            Quarantine {
                bus: bus.clone(),
                handlers: handlers.to_vec(),
                command: Arc::clone(&command),
                pulse,
                shutdown: signal.clone(),
            }
            .run()
        });
    }

    /// What this process's handlers no longer need.
    fn pruner(&self, pools: &[(Service, Pool)]) {
        let handlers = self.handlers(pools);
        let bridges =
            wiring::bridges(&self.config).into_iter().filter(|spec| handlers.contains(&spec.handler));
        let handlers: Vec<_> = handlers.iter().copied().chain(bridges.map(|spec| spec.queue)).collect();
        let Some((_, pool)) = pools.first().cloned() else { return };
        let (retention, signal) = (self.config.retention.clone(), self.supervisor.shutdown_signal());
        self.supervisor.start("pruner", move |pulse| {
            Pruner {
                pulse,
                pool: pool.clone(),
                handlers: handlers.clone(),
                retention: retention.clone(),
                shutdown: signal.clone(),
            }
            .run()
        });
    }

    fn handlers(&self, pools: &[(Service, Pool)]) -> Arc<[&'static str]> {
        self.specs(pools).into_iter().map(|spec| spec.name).collect()
    }

    fn specs(&self, pools: &[(Service, Pool)]) -> Vec<HandlerSpec> {
        pools.iter().flat_map(|(service, _)| wiring::handlers(&self.config, *service)).collect()
    }

    fn listen(&self, servers: &mut Vec<ServerHandle>, server: actix_web::dev::Server, name: &'static str) {
        servers.push(server.handle());
        actix_rt::spawn(async move {
            if let Err(error) = server.await {
                error!(name, %error, "a listener ended");
            }
        });
    }

    async fn stop(&self, servers: Vec<ServerHandle>) -> anyhow::Result<ExitCode> {
        let (begun, grace) = (Instant::now(), self.config.internal.grace);
        let drain = async {
            // The door first, then what stands behind it: the last pushed is behind the ones before.
            for server in servers {
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

fn internal(config: &Config, health: Health) -> anyhow::Result<actix_web::dev::Server> {
    let listen = config.internal.listen;
    let server = HttpServer::new(move || {
        App::new()
            .configure(health.clone().routes(true))
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

async fn metrics_page() -> Result<HttpResponse, Problem> {
    let page = metrics::page().map_err(|error| {
        error!(%error, "the metrics cannot be shown");
        Problem::new(Code::Internal, "the metrics cannot be shown")
    })?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(page))
}

/// What the supervisor knows, as metrics.
fn observe(supervisor: Supervisor) {
    metrics::observe_actors(move || {
        let figures = |actor: ChildStatus| ActorFigures {
            running: actor.state == ChildState::Running,
            name: actor.name,
            restarts: actor.restarts,
            depth: actor.depth,
        };
        supervisor.status().into_iter().map(figures).collect()
    });
}
