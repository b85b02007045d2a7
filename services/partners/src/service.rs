//! How partners are put together and started: their actors, and their HTTP server.

use std::{sync::Arc, time::Duration};

use actix_web::dev::Server;
use orrery_bus::{Dependencies, consumer::QueueKind, relay::Wake};
use orrery_config::{keys::KeyRing, partner::Partner as Configured};
use orrery_seal::SealError;
use orrery_service::Application;
use orrery_store::outbox::Outbox;
use orrery_supervise::{Mailbox, Progress, Supervisor};
use orrery_web::health::Health;
use tokio::runtime::Handle;

use crate::{
    config::Config,
    definition::PARTNERS,
    deliver::{
        manager::Manager,
        tail::{Bell, Reader, Tail},
        worker::Shared,
    },
    handler,
    http::{self, AppState, directory::Directory},
    maintenance::Maintenance,
    publish::intake::Intake,
    targets::{Gate, GateError},
    vault::Vault,
};

/// Partners cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The way out cannot be built.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A listener cannot be had.
    #[error("partners cannot listen: {0}")]
    Io(#[from] std::io::Error),
}

/// What partners are given.
pub struct Parts {
    /// Their settings.
    pub config: Config,
    /// Those of the configuration.
    pub configured: Vec<Configured>,
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// How long sent rows are kept.
    pub keep_sent: Duration,
    /// What seals.
    pub sealing: KeyRing,
    /// Keys shared with maily.
    pub mail: KeyRing,
    /// The broker, connections, time and randomness.
    pub dependencies: Dependencies,
    /// The runtime that owns every client.
    pub main: Handle,
}

/// Starts the actors under `supervisor`, and binds the listener.
///
/// # Errors
/// When a key cannot be used, or the listener not be bound.
pub fn start(
    parts: Parts,
    supervisor: &Supervisor,
    health: Health,
) -> Result<(Server, Application), StartError> {
    let Parts { config, dependencies, main, .. } = parts;
    let Dependencies { pool, clock, random, bus } = dependencies.clone();
    let vault = Arc::new(Vault::new(&parts.sealing, &parts.mail)?);
    let (wake, bell, changed) = (Wake::default(), Bell::default(), Bell::default());
    let outbox = Outbox::new(PARTNERS, parts.event_lifetime, clock.clone(), random.clone());
    // The client's connections live on the main runtime.
    let gate = {
        let _main = main.enter();
        Gate::new(&config.targets, &config.delivery)?
    };
    let tail = Tail::new(pool.clone());

    dependencies.relay(supervisor, PARTNERS, parts.keep_sent, wake.clone());
    dependencies.consume(supervisor, handler::handler(&config, pool.clone(), bell.clone()), QueueKind::Main);
    let reader =
        Reader { tail: Arc::clone(&tail), bell: bell.clone(), shutdown: supervisor.shutdown_signal() };
    supervisor.start_actor("partners.tail", Mailbox::own_work(1), move || reader.clone());
    let shared = Arc::new(Shared {
        pool: pool.clone(),
        tail: Arc::clone(&tail),
        gate: gate.clone(),
        vault: Arc::clone(&vault),
        delivery: config.delivery.clone(),
        outbox: outbox.clone(),
        wake: wake.clone(),
        clock: clock.clone(),
        random: random.clone(),
        cursors: Default::default(),
    });
    let manager = Manager { shared, changed: changed.clone(), shutdown: supervisor.shutdown_signal() };
    supervisor.start_actor("partners.deliveries", Mailbox::own_work(1), move || manager.clone());
    let maintenance = Maintenance {
        pool: pool.clone(),
        configured: parts.configured.into(),
        log_lifetime: config.log_lifetime,
        dead_letter_lifetime: config.dead_letter_lifetime,
        audit_lifetime: config.audit_lifetime,
        clock: clock.clone(),
        random: random.clone(),
        progress: Progress::default(),
        is_first: true,
    };
    supervisor.start_actor("partners.maintenance", Mailbox::own_work(1), move || maintenance.clone());

    let config = Arc::new(config);
    let intake = Intake { pool: pool.clone(), bus, outbox, wake, bell, schemas: Default::default() };
    let app = AppState {
        directory: Directory::new(pool.clone()),
        pool,
        vault,
        gate,
        tail,
        intake: Arc::new(intake),
        quotas: Arc::default(),
        streams: Arc::new(tokio::sync::Semaphore::new(config.streams)),
        changed,
        config: Arc::clone(&config),
        clock,
        random,
        main,
        shutdown: supervisor.shutdown_signal(),
    };
    let application = http::application(app);
    let server = http::server(&config, &application, health)?;
    Ok((server, application))
}
