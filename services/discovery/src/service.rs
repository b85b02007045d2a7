//! How discovery is put together and started.

use std::{sync::Arc, time::Duration};

use actix_web::dev::Server;
use bytesize::ByteSize;
use orrery_bus::{Dependencies, Handler, consumer::QueueKind, relay::Wake};
use orrery_config::keys::KeyRing;
use orrery_observability::metrics;
use orrery_seal::SealError;
use orrery_service::Application;
use orrery_store::outbox::Outbox;
use orrery_supervise::{Mailbox, Shutdown, Supervisor};
use orrery_web::health::Health;
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::{
    config::Config,
    definition::DISCOVERY,
    events::Accounts,
    http::{self, AppState, Keys, Turn},
    link::{Link, LinkActor},
    presence::{Limits, Presence, ReplicaId},
    socket::{Shared, SocketLimits},
    store::Store,
    sweeper::Sweeper,
};

/// Discovery cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// Its key cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The HTTP client cannot be built.
    #[error("the client that fetches autha's keys cannot be built: {0}")]
    Client(#[from] reqwest::Error),
    /// The listener cannot be bound.
    #[error("the listener cannot be had: {0}; change discovery.listen")]
    Listen(#[from] std::io::Error),
}

/// What discovery is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// What its rows are sealed under.
    pub key: KeyRing,
    /// What it shares with the TURN server, if there is one.
    pub turn: Option<SecretString>,
    /// How long its events are wanted.
    pub event_lifetime: Duration,
    /// How long rows of the outbox are kept once they are sent.
    pub keep_sent: Duration,
    /// The broker, its connections, time and randomness.
    pub dependencies: Dependencies,
    /// The runtime that owns every client.
    pub main: Handle,
    /// Told when the process is asked to end, before its listeners are.
    pub stopping: Shutdown,
}

/// Discovery, started.
pub struct Discovery {
    /// The HTTP server, to be awaited.
    pub server: Server,
    /// The same routes for a gateway in this process.
    pub application: Application,
}

/// The handler of what autha tells; it rings `wake` after a commit.
pub fn accounts(
    config: &Config,
    event_lifetime: Duration,
    dependencies: &Dependencies,
    wake: Wake,
) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, random, .. } = dependencies.clone();
    let outbox = Outbox::new(DISCOVERY, event_lifetime, clock.clone(), random);
    Arc::new(Accounts { config: config.clone(), pool, outbox, wake, clock })
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

impl Discovery {
    /// Starts the actors under `supervisor`, and binds the listener.
    ///
    /// # Errors
    /// When a key cannot be used, or the listener not be bound.
    pub fn start(parts: Parts, supervisor: &Supervisor, health: Health) -> Result<Self, StartFault> {
        let Parts { config, key, turn, dependencies, main, stopping, .. } = parts;
        let config = Arc::new(config);
        let Dependencies { bus, pool, clock, random } = dependencies.clone();
        let replica = ReplicaId(random.uuid_v4());
        let limits = Limits {
            sockets: config.sockets,
            per_account: config.sockets_per_account,
            lobby: config.lobby,
            replica_timeout: config.replica_timeout,
        };
        let presence = Presence::new(replica, limits);
        let store = Store::new(pool, &key, Arc::clone(&config), clock.clone(), random.clone())?;
        let link = Link::new(&key)?;

        let actor = LinkActor {
            replica,
            link: link.clone(),
            presence: presence.clone(),
            bus,
            random: random.clone(),
            replica_timeout: config.replica_timeout,
        };
        supervisor.start_actor("discovery.link", Mailbox::own_work(1), move || actor.clone());
        let (swept, rows) = (presence.clone(), store.clone());
        supervisor.start_actor("discovery.sweeper", Mailbox::own_work(1), move || Sweeper {
            presence: swept.clone(),
            store: rows.clone(),
            looks: 0,
        });
        let wake = Wake::default();
        dependencies.relay(supervisor, DISCOVERY, parts.keep_sent, wake.clone());
        let handler = accounts(&config, parts.event_lifetime, &dependencies, wake);
        dependencies.consume(supervisor, handler, QueueKind::Main);
        let counted = presence.clone();
        metrics::observe_discovery(move || {
            let directory = counted.lock();
            (directory.count(), directory.replicas())
        });

        let shared = Shared {
            presence,
            store,
            link,
            limits: Arc::new(SocketLimits {
                frame: bytes(config.frame_limit),
                frames_per_second: config.frames_per_second,
                frame_burst: config.frame_burst,
                offers_per_minute: config.offers_per_minute,
                frames_capacity: config.frames_capacity,
                buffer: bytes(config.buffer),
                idle: config.idle_timeout,
                ping: config.ping_every,
                receipt: config.write_timeout,
                message: bytes(config.message_limit),
            }),
            domain: config.domain().into(),
            clock: clock.clone(),
            random,
            supervisor: supervisor.clone(),
            stopping,
        };
        let turn =
            turn.map(|secret| Arc::new(Turn::new(config.turn.urls.clone(), &secret, config.turn.lifetime)));
        let application =
            http::application(AppState { shared, keys: Keys::new(&config, clock, main)?, turn });
        let server = http::server(&config, &application, health)?;
        Ok(Self { server, application })
    }
}
