//! How a world is assembled, and the settings that its services get.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize},
};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Proxies, World};
use crate::broker::Broker;
use crate::database::Database;
use crate::environment::{self, Servers};
use crate::fresh;
use crate::ports::Port;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::rabbitmq::RabbitMq;
use crate::secrets::Secrets;
use crate::service::Site;
use crate::smtp::SmtpReceiver;

/// The bucket that services are configured with.
pub const BUCKET: &str = "orrery";

/// The options of a world.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    settings: BTreeMap<String, String>,
    unset: Vec<String>,
    captures: bool,
    migrates: bool,
    panics_allowed: bool,
    servers: Option<Servers>,
}

impl Default for WorldBuilder {
    fn default() -> Self {
        Self {
            settings: BTreeMap::new(),
            unset: Vec::new(),
            captures: false,
            migrates: true,
            panics_allowed: false,
            servers: None,
        }
    }
}

impl WorldBuilder {
    /// Sets a variable for every process, over what the world sets itself (`ORRERY_MAILY__RETRY_DELAY` and the like).
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Leaves out a variable that the world sets by itself.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.unset.push(key.to_owned());
        self
    }

    /// Mail goes to the world's receiver by SMTP: the default.
    #[must_use]
    pub fn smtp(mut self) -> Self {
        self.captures = false;
        self
    }

    /// Mail is captured as files, read by [`World::captured`].
    #[must_use]
    pub fn capture(mut self) -> Self {
        self.captures = true;
        self
    }

    /// `orrery migrate` is left to the test.
    #[must_use]
    pub fn unmigrated(mut self) -> Self {
        self.migrates = false;
        self
    }

    /// The test makes services panic: their logs may tell of it.
    #[must_use]
    pub fn allow_panics(mut self) -> Self {
        self.panics_allowed = true;
        self
    }

    /// The world is on these servers instead of the shared ones, so that the test may kill them.
    ///
    /// # Errors
    /// None is known.
    pub fn on(mut self, database: &Postgres, broker: &RabbitMq) -> Result<Self> {
        self.servers = Some(Servers {
            database: database.url()?,
            broker: broker.url()?,
            management: Some(broker.management_url()?),
        });
        Ok(self)
    }

    /// Makes the database, the virtual host, the object store, the mail receiver and the proxies, and migrates.
    ///
    /// # Errors
    /// `TEST_DATABASE_URL` or `TEST_AMQP_URL` is missing (run `./dev test`), the binary is, or a part does not start.
    pub async fn start(self) -> Result<World> {
        let binary = environment::binary()?;
        let servers = self.servers.map_or_else(Servers::shared, Ok)?;
        let mut folder = tempfile::Builder::new().prefix("orrery-test-").tempdir()?;
        folder.disable_cleanup(std::env::var_os("ORRERY_TEST_KEEP").is_some());
        std::fs::create_dir(folder.path().join("tmp"))?;
        std::fs::create_dir(folder.path().join("s3"))?;
        let (database, broker) = tokio::try_join!(
            Database::create_on(&servers.database),
            Broker::create_on(&servers.broker, servers.management.clone())
        )?;
        let smtp = SmtpReceiver::start().await?;
        let (storage_port, gateway, autha) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let discovery = Port::reserve()?;
        let proxies = Proxies {
            postgres: Proxy::start(database.address().await?).await?,
            broker: Proxy::start(broker.address().await?).await?,
            storage: Proxy::start(storage_port.address()).await?,
            smtp: Proxy::start(smtp.addr()).await?,
        };
        let secrets = Secrets::default();
        let mut settings = inherited();
        settings.extend(parts(&proxies, &servers, &database, &broker)?);
        settings.extend(keys(&secrets));
        settings.extend(services(&proxies, &gateway, &autha, folder.path(), self.captures)?);
        settings.extend(peers(&gateway, &autha, &discovery));
        settings.extend(self.settings);
        settings.retain(|key, _| !self.unset.contains(key));
        let site = Arc::new(Site {
            binary,
            folder: folder.path().to_owned(),
            settings,
            gateway,
            autha,
            discovery,
            logs: Mutex::default(),
            started: AtomicUsize::new(0),
            pages: Mutex::default(),
            faults: Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        let world = World {
            storage: Mutex::new(None),
            proxies,
            smtp,
            database,
            broker,
            site,
            storage_port,
            secrets,
            panics_allowed: self.panics_allowed,
            folder,
        };
        world.start_storage().await?;
        if self.migrates {
            world.migrate().await?;
        }
        Ok(world)
    }
}

type Settings = Vec<(String, String)>;

/// What any process needs from the test's own environment.
fn inherited() -> BTreeMap<String, String> {
    let kept =
        ["PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "LLVM_PROFILE_FILE"];
    kept.iter().filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?))).collect()
}

/// The real parts, by way of the proxies.
fn parts(proxies: &Proxies, servers: &Servers, database: &Database, broker: &Broker) -> Result<Settings> {
    let mut settings = vec![
        setting("DATABASE__URL", database.url_through(proxies.postgres.addr())?),
        setting("BROKER__URL", broker.url_through(proxies.broker.addr())?),
        setting("STORAGE__ENDPOINT", format!("http://{}", proxies.storage.addr())),
        setting("STORAGE__BUCKET", BUCKET),
        setting("STORAGE__ACCESS_KEY", "orrery-tests"),
    ];
    if let Some(url) = &servers.management {
        settings.push(setting("BROKER__MANAGEMENT_URL", url.as_str()));
    }
    Ok(settings)
}

/// Keys of the world's own, which count as secrets.
fn keys(secrets: &Secrets) -> Settings {
    let key = || {
        let bytes: Vec<u8> =
            [fresh::uuid(), fresh::uuid()].iter().flat_map(|half| *half.as_bytes()).collect();
        STANDARD.encode(bytes)
    };
    let names = ["KEYS__MASTER", "KEYS__MAIL", "KEYS__DISCOVERY", "STORAGE__SECRET_KEY"];
    let keys: Settings = names.iter().map(|name| setting(name, key())).collect();
    keys.iter().for_each(|(_, key)| secrets.add(key));
    keys
}

/// What the services do. The delays between two tries are short, since a test waits for the second.
fn services(
    proxies: &Proxies,
    gateway: &Port,
    autha: &Port,
    folder: &Path,
    captures: bool,
) -> Result<Settings> {
    let path =
        |name: &str| folder.join(name).to_str().map(str::to_owned).context("a folder that is no UTF-8");
    let smtp = proxies.smtp.addr();
    Ok(vec![
        // All callers of a test are one network.
        setting("GATEWAY__RATES__ENABLED", "false"),
        setting("GATEWAY__NETWORK_CONNECTIONS", "20000"),
        setting("GATEWAY__LISTEN", gateway.address().to_string()),
        setting("GATEWAY__AUTHA", format!("http://{}", autha.address())),
        setting("CONSOLE__AUTHA", format!("http://{}", autha.address())),
        setting("AUTHA__LISTEN", autha.address().to_string()),
        setting("AUTHA__PUBLIC_URL", format!("http://{}", gateway.address())),
        setting("MAILY__TRANSPORT", if captures { "capture" } else { "smtp" }),
        setting("MAILY__CAPTURE_DIR", path("mail")?),
        setting("MAILY__FROM", "Orrery <no-reply@orrery.example>"),
        setting("MAILY__SMTP__HOST", smtp.ip().to_string()),
        setting("MAILY__SMTP__PORT", smtp.port().to_string()),
        setting("MAILY__SMTP__TLS", "none"),
        setting("MAILY__RETRY_DELAY", "1s"),
        setting("SPINOZA__RETRY_DELAY", "1s"),
        ("TMPDIR".to_owned(), path("tmp")?),
        ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
    ])
}

/// Where discovery listens, and whose tokens it believes.
fn peers(gateway: &Port, autha: &Port, discovery: &Port) -> Settings {
    vec![
        setting("DISCOVERY__LISTEN", discovery.address().to_string()),
        setting("DISCOVERY__JWKS_URL", format!("http://{}/.well-known/jwks.json", autha.address())),
        setting("DISCOVERY__ISSUER", format!("http://{}", gateway.address())),
        setting("DISCOVERY__RETRY_DELAY", "1s"),
    ]
}

fn setting(key: &str, value: impl Into<String>) -> (String, String) {
    (format!("ORRERY_{key}"), value.into())
}
