//! How autha is put together and started: its actors, and its HTTP server.

use std::{sync::Arc, time::Duration};

use actix_rt::Arbiter;
use actix_web::dev::Server;
use orrery_actors::{
    bus::{
        Bus,
        consumer::Consumer,
        relay::{Relay, Wake},
    },
    clock::Clock,
    config::{keys::KeyRing, storage::UploadedEvents},
    objects::Objects,
    random::Random,
    seal::SealError,
    store::{Pool, outbox::Outbox},
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
    /// Its connections.
    pub pool: Pool,
    /// The broker.
    pub bus: Bus,
    /// The bucket.
    pub objects: Objects,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The runtime that owns every client.
    pub main: Handle,
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
        let Parts { config, keys, pool, bus, objects, clock, random, main, .. } = parts;
        let vault = Arc::new(Vault::new(&parts.master, &parts.mail)?);
        let wake = Wake::default();
        let outbox = Outbox::new(Service::Autha, parts.event_lifetime, clock.clone(), random.clone());
        let passwords = PasswordPool::start(config.hash_workers, config.hash_queue, random.clone())?;

        let actor = Accounts {
            pool: pool.clone(),
            vault: Arc::clone(&vault),
            outbox: outbox.clone(),
            wake: wake.clone(),
            uploaded_events: parts.uploaded_events,
        };
        let accounts = supervisor.start_actor("autha.accounts", arbiter, move || actor.clone());

        supervisor.start("autha.relay", {
            let (bus, pool, random, wake) = (bus.clone(), pool.clone(), random.clone(), wake.clone());
            let (keep, signal) = (parts.keep_sent, supervisor.shutdown_signal());
            move || {
                Relay {
                    bus: bus.clone(),
                    pool: pool.clone(),
                    producer: Service::Autha,
                    keep,
                    random: random.clone(),
                    wake: wake.clone(),
                    shutdown: signal.clone(),
                }
                .run()
            }
        });
        supervisor.start("autha.pictures", {
            let handler = Arc::new(PictureResults {
                pool: pool.clone(),
                outbox,
                wake,
                clock: clock.clone(),
                retry_delay: config.retry_delay,
            });
            let (pool, clock, random) = (pool.clone(), clock.clone(), random.clone());
            let signal = supervisor.shutdown_signal();
            move || {
                let handler = Arc::clone(&handler);
                Consumer::new(
                    bus.clone(),
                    pool.clone(),
                    handler,
                    clock.clone(),
                    random.clone(),
                    signal.clone(),
                )
                .run()
            }
        });
        supervisor.start("autha.keeper", {
            let (pool, vault, keys, clock) = (pool.clone(), Arc::clone(&vault), keys.clone(), clock.clone());
            let signal = supervisor.shutdown_signal();
            move || {
                Keeper {
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
            move || {
                Sweeper {
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
