//! How autha is put together and started: its actors, and its HTTP server.

use std::{sync::Arc, time::Duration};

use actix_rt::Arbiter;
use actix_web::dev::Server;
use orrery_actors::{
    bus::{Footing, Handler, consumer::Source, relay::Wake},
    config::{keys::KeyRing, storage::UploadedEvents},
    objects::Objects,
    seal::SealError,
    store::outbox::Outbox,
    supervise::Supervisor,
    web::health::Health,
};
use orrery_schemas::services::Service;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    account::actor::Accounts,
    config::Config,
    http::{self, Desk},
    keeper::Keeper,
    password::PasswordPool,
    picture::{results::PictureResults, sweeper::Sweeper},
    token::{access::Issuer, keys::KeySet},
    vault::Vault,
};

/// Autha cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A thread or a listener cannot be had.
    #[error("autha cannot listen or start its threads: {0}")]
    Io(#[from] std::io::Error),
}

/// What autha is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// How long sent rows are kept.
    pub keep_sent: Duration,
    /// Who tells of uploads.
    pub uploaded_events: UploadedEvents,
    /// Master keys.
    pub master: KeyRing,
    /// Keys shared with maily.
    pub mail: KeyRing,
    /// The keys that it loads and signs with; without them it is not ready.
    pub keys: KeySet,
    /// The bucket.
    pub objects: Objects,
    /// The broker, its connections, time and randomness.
    pub footing: Footing,
    /// The runtime that owns every client.
    pub main: Handle,
}

/// The handler of pictures' results; it rings `wake` after a commit.
pub fn pictures_handler(
    config: &Config,
    event_lifetime: Duration,
    footing: &Footing,
    wake: Wake,
) -> Arc<dyn Handler> {
    let Footing { pool, clock, random, .. } = footing.clone();
    Arc::new(PictureResults {
        pool,
        outbox: Outbox::new(Service::Autha, event_lifetime, clock.clone(), random),
        wake,
        clock,
        retry_delay: config.retry_delay,
    })
}

/// Autha, started.
pub struct Autha {
    /// The HTTP server, to be awaited.
    pub server: Server,
}

impl Autha {
    /// Starts the actors under `supervisor`, the accounts actor on `arbiter`, and binds the listener.
    ///
    /// # Errors
    /// When a key cannot be used, or the listener not be bound.
    pub fn start(
        parts: Parts,
        supervisor: &Supervisor,
        arbiter: Arbiter,
        health: Health,
    ) -> Result<Self, StartError> {
        let Parts { config, keys, objects, footing, main, .. } = parts;
        let Footing { pool, clock, random, .. } = footing.clone();
        let vault = Arc::new(Vault::new(&parts.master, &parts.mail)?);
        let wake = Wake::default();
        let outbox = Outbox::new(Service::Autha, parts.event_lifetime, clock.clone(), random.clone());
        let passwords = {
            let threads = supervisor.threads("autha.passwords");
            PasswordPool::start(config.hash_workers, config.hash_queue, random.clone(), threads)?
        };

        let actor = Accounts {
            pool: pool.clone(),
            vault: Arc::clone(&vault),
            outbox,
            wake: wake.clone(),
            uploaded_events: parts.uploaded_events,
        };
        let accounts = supervisor.start_actor("autha.accounts", arbiter, move || actor.clone());

        footing.relay(supervisor, Service::Autha, parts.keep_sent, wake.clone());
        let pictures = pictures_handler(&config, parts.event_lifetime, &footing, wake);
        footing.consume(supervisor, pictures, Source::Main);
        supervisor.start("autha.keeper", {
            let (pool, vault, keys, clock) = (pool.clone(), Arc::clone(&vault), keys.clone(), clock.clone());
            let signal = supervisor.shutdown_signal();
            move |pulse| {
                Keeper {
                    pulse,
                    pool: pool.clone(),
                    vault: Arc::clone(&vault),
                    keys: keys.clone(),
                    clock: clock.clone(),
                    shutdown: signal.clone(),
                }
                .run()
            }
        });
        supervisor.start("autha.sweeper", {
            let (pool, objects, clock) = (pool.clone(), objects.clone(), clock.clone());
            let (after, every) = (config.sweep_after, config.sweep_every);
            let signal = supervisor.shutdown_signal();
            move |pulse| {
                Sweeper {
                    pulse,
                    pool: pool.clone(),
                    objects: objects.clone(),
                    clock: clock.clone(),
                    after,
                    every,
                    shutdown: signal.clone(),
                }
                .run()
            }
        });

        let desk = Desk {
            accounts,
            pool,
            passwords,
            keys,
            issuer: Issuer { issuer: config.base().to_owned(), audience: config.audience.clone() },
            vault,
            objects,
            uploads: Arc::new(Semaphore::new(config.uploads)),
            config: Arc::new(config),
            clock,
            random,
            main,
        };
        Ok(Self { server: http::server(desk, health)? })
    }
}
