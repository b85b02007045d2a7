//! What is measured: all services in one process over real parts, without the tests' proxies between them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use orrery_tests::deadline::until;
use orrery_tests::ports::Port;
use orrery_tests::process::Process;
use orrery_tests::{Client, Service, World, environment};

/// The longest that any single step may take before the benchmark gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A world with one process that serves everything.
#[derive(Debug)]
pub struct Stage {
    // In the order in which they are dropped.
    /// All services.
    pub service: Service,
    _storage: Process,
    _storage_port: Port,
    /// The parts.
    pub world: World,
}

impl Stage {
    /// Starts the parts and the services.
    ///
    /// # Errors
    /// See `WorldBuilder::start`; or a part does not become ready.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with(more: &[(&str, &str)]) -> Result<Self> {
        let world = World::start().await?;
        // The world's own object store is reached by a proxy only.
        world.kill_storage();
        let storage_port = Port::reserve()?;
        let storage = storage(&world, &storage_port).await?;
        let (database, broker) = (world.database(), world.broker());
        let settings = [
            ("ORRERY_DATABASE__URL", database.url_through(database.address().await?)?),
            ("ORRERY_BROKER__URL", broker.url_through(broker.address().await?)?),
            ("ORRERY_STORAGE__ENDPOINT", format!("http://{}", storage_port.address())),
            ("ORRERY_STORAGE__ACCESS_KEY", KEY.to_owned()),
            ("ORRERY_STORAGE__SECRET_KEY", KEY.to_owned()),
            ("ORRERY_MAILY__SMTP__PORT", world.smtp().addr().port().to_string()),
        ];
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(key, value)| (*key, value.as_str())).chain(more.iter().copied()).collect();
        let service = world.spawn_with(&[], &settings).await?;
        Ok(Self { service, _storage: storage, _storage_port: storage_port, world })
    }

    /// A client of the gateway.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.world.gateway_url())
    }

    /// Ends the process in good order and starts it again.
    ///
    /// # Errors
    /// It does not end, or does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.service.terminate(PATIENCE).await?;
        self.service.restart().await
    }
}

const KEY: &str = "orrery-bench";

/// The object store. It runs from a copy of the binary: from the same file it would share pages with the services, and
/// their PSS would be too small by what it shares.
async fn storage(world: &World, port: &Port) -> Result<Process> {
    let folder = world.folder();
    let binary = folder.join("orrery-s3");
    std::fs::copy(environment::binary()?, &binary).context("copying the binary")?;
    let (listen, root) = (port.address().to_string(), folder.join("s3"));
    let root = root.to_str().context("a folder that is no UTF-8")?;
    let settings = ["ORRERY_STORAGE__ACCESS_KEY", "ORRERY_STORAGE__SECRET_KEY"];
    let settings: BTreeMap<String, String> =
        settings.iter().map(|key| ((*key).to_owned(), KEY.to_owned())).collect();
    let arguments = ["s3", "--listen", &listen, "--root", root];
    let log = folder.join("bench-s3.log");
    let storage = Process::spawn(&binary, &arguments, &settings, folder, &log)?;
    until(PATIENCE, "the object store", async || {
        tokio::net::TcpStream::connect(port.address()).await.is_ok()
    })
    .await?;
    Ok(storage)
}
