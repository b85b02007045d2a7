//! How autha is put together and started: its actors, and its HTTP server.

use std::{sync::Arc, time::Duration};

use actix_web::dev::Server;
use orrery_bus::{Dependencies, Handler, consumer::QueueKind, relay::Wake};
use orrery_config::{keys::KeyRing, storage::UploadedEvents};
use orrery_objects::Objects;
use orrery_seal::SealError;
use orrery_store::outbox::Outbox;
use orrery_supervise::{Mailbox, Progress, Supervisor};
use orrery_web::health::Health;
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::{
    account::{actor::Accounts, change::Tools, links::Links, receipts::Receipts},
    config::Config,
    definition::AUTHA,
    export::maker::ExportMaker,
    http::{self, AppState, Application},
    key::KeySet,
    maintenance::Maintenance,
    password::PasswordPool,
    picture::{
        Uploads, incoming,
        results::{self, PictureResults},
        sweeper::Sweeper,
    },
    purger::Purger,
    throttle::{RedisCounts, Throttle},
    token::access::Issuer,
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
    /// Where Redis is, if it counts attempts, and how long its answer may take.
    pub redis: Option<(SecretString, Duration)>,
    /// The bucket.
    pub objects: Objects,
    /// The broker, its connections, time and randomness.
    pub dependencies: Dependencies,
    /// The runtime that owns every client.
    pub main: Handle,
}

/// The handler of pictures' results; it rings `wake` after a commit.
pub fn pictures_handler(
    config: &Config,
    event_lifetime: Duration,
    dependencies: &Dependencies,
    wake: Wake,
) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, random, .. } = dependencies.clone();
    Arc::new(PictureResults {
        pool,
        outbox: Outbox::new(AUTHA, event_lifetime, clock.clone(), random),
        wake,
        clock,
        spec: results::spec(config),
    })
}

/// The handler of receipts of deletions.
pub fn receipts_handler(config: &Config, dependencies: &Dependencies) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, .. } = dependencies.clone();
    Arc::new(Receipts { pool, clock, retry_delay: config.retry_delay })
}

/// Autha, started.
pub struct Autha {
    /// The HTTP server, to be awaited.
    pub server: Server,
    /// The same routes for a gateway in this process.
    pub application: Application,
}

impl Autha {
    /// Starts the actors under `supervisor`, and binds the listener.
    ///
    /// # Errors
    /// When a key cannot be used, or the listener not be bound.
    pub fn start(parts: Parts, supervisor: &Supervisor, health: Health) -> Result<Self, StartError> {
        let Parts { config, keys, objects, dependencies, main, .. } = parts;
        let Dependencies { pool, clock, random, .. } = dependencies.clone();
        let vault = Arc::new(Vault::new(&parts.master, &parts.mail)?);
        let wake = Wake::default();
        let outbox = Outbox::new(AUTHA, parts.event_lifetime, clock.clone(), random.clone());
        let hashing = Mailbox { capacity: config.hash_queue, concurrency: config.hash_workers };
        let passwords = PasswordPool::start(supervisor, hashing, &random)?;
        let uploads = Mailbox { capacity: config.uploads_capacity, concurrency: config.uploads };
        // How long one may take is the limit of each of its chunks.
        let uploads = supervisor.start_actor_within("autha.uploads", uploads, Duration::MAX, || Uploads);

        let config = Arc::new(config);
        let tools = Tools {
            pool: pool.clone(),
            vault: Arc::clone(&vault),
            outbox,
            wake: wake.clone(),
            config: Arc::clone(&config),
            clock: clock.clone(),
            random: random.clone(),
        };
        let actor = Accounts { tools: tools.clone() };
        let changes =
            Mailbox { capacity: config.accounts_capacity, concurrency: config.accounts_concurrency };
        let accounts = supervisor.start_actor("autha.accounts", changes, move || actor.clone());

        dependencies.relay(supervisor, AUTHA, parts.keep_sent, wake.clone());
        let pictures = pictures_handler(&config, parts.event_lifetime, &dependencies, wake);
        dependencies.consume(supervisor, pictures, QueueKind::Main);
        dependencies.consume(supervisor, receipts_handler(&config, &dependencies), QueueKind::Main);
        let maintenance = Maintenance {
            pool: pool.clone(),
            vault: Arc::clone(&vault),
            keys: keys.clone(),
            replica: random.uuid_v4(),
            key_lifetime: config.signing_key_lifetime,
            audit_lifetime: config.audit_lifetime,
            clock: clock.clone(),
            progress: Progress::default(),
        };
        supervisor.start_actor("autha.maintenance", Mailbox::own_work(1), move || maintenance.clone());
        let exports =
            ExportMaker { tools: tools.clone(), objects: objects.clone(), progress: Progress::default() };
        supervisor.start_actor("autha.exports", Mailbox::own_work(1), move || exports.clone());
        let purger = Purger { tools, objects: objects.clone(), progress: Progress::default() };
        supervisor.start_actor("autha.purger", Mailbox::own_work(1), move || purger.clone());
        let sweeper = Sweeper {
            progress: Progress::default(),
            pool: pool.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            after: config.sweep_after,
            incoming_after: incoming::kept(config.upload_lifetime),
            every: config.sweep_every,
            shutdown: supervisor.shutdown_signal(),
        };
        supervisor.start_actor("autha.sweeper", Mailbox::own_work(1), move || sweeper.clone());

        let listener = Arc::clone(&config);
        let throttle = {
            let redis = parts.redis.map(|(url, limit)| RedisCounts::new(url, limit, main.clone()));
            Throttle::new(config.throttle.clone(), redis, pool.clone(), Arc::clone(&vault))
        };
        let app = AppState {
            accounts,
            pool,
            passwords,
            throttle,
            gateways: config.gateways.iter().filter_map(|network| network.parse().ok()).collect(),
            links: Links::new(&config.public_url).with_pictures(config.cdn_url.as_ref()),
            tells_of_uploads: parts.uploaded_events == UploadedEvents::Outbox,
            keys,
            issuer: Issuer { issuer: config.base().to_owned(), audience: config.audience.clone() },
            vault,
            objects,
            uploads: uploads.admission(),
            config,
            clock,
            random,
            main,
        };
        let application = http::application(app);
        let server = http::server(&listener, &application, health)?;
        Ok(Self { server, application })
    }
}
