//! What a service is given when it starts.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use actix_web::web::ServiceConfig;
use orrery_bus::{Dependencies, HandlerSpec, bridge::BridgeSpec};
use orrery_config::shared::Shared;
use orrery_objects::Objects;
use orrery_schemas::{routes::Route, services::ServiceId};
use orrery_supervise::{Shutdown, Supervisor};
use orrery_web::health::Health;
use tokio::runtime::Runtime;

use crate::{Advice, Checked, Mails, StartError, Webhooks};

/// A service's public routes with their handlers and what these need, for each worker of whoever serves them.
pub type Application = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// The application of a service that starts in this process; empty until it has started.
pub type Local = Arc<OnceLock<Application>>;

/// A service as its neighbours in the process see it, by what is data.
#[derive(Clone)]
pub struct Peer {
    /// Which one.
    pub service: ServiceId,
    /// Its public routes.
    pub routes: &'static [Route],
    /// Its application, where it runs in this process.
    pub local: Option<Local>,
}

/// A service that the configuration enables, as an operator sees it.
#[derive(Debug, Clone)]
pub struct Enabled {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Whether it runs in this process.
    pub is_here: bool,
    /// What it consumes.
    pub handlers: Vec<HandlerSpec>,
    /// Its bridges that are turned on.
    pub bridges: Vec<BridgeSpec>,
}

/// A question that is answered when it is asked.
pub type Asked<T> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + Sync>;

/// The whole installation as the configuration has it, for who shows it to an operator.
#[derive(Clone)]
pub struct Installation {
    /// The services that are enabled, here or in another process.
    pub services: Vec<Enabled>,
    /// The queues of all bridges, turned on or not: what lies among their dead letters was written by others.
    pub bridge_queues: Vec<&'static str>,
    /// The lines of `orrery check`.
    pub check: Asked<Vec<Checked>>,
    /// What works, and should still be set.
    pub advice: Vec<Advice>,
    /// What services write to people, where they show it.
    pub mails: Asked<Result<Option<Mails>, String>>,
    /// Third parties and their endpoints, where a service delivers to them.
    pub webhooks: Option<Arc<dyn Webhooks>>,
}

impl Installation {
    /// For a process that shows nothing to anybody, such as that of a quarantine queue.
    pub fn unshown() -> Self {
        Self {
            services: Vec::new(),
            bridge_queues: Vec::new(),
            check: Arc::new(|| Box::pin(async { Vec::new() })),
            advice: Vec::new(),
            mails: Arc::new(|| Box::pin(async { Ok(None) })),
            webhooks: None,
        }
    }
}

/// What a service is given.
#[derive(Clone)]
pub struct Context {
    /// The sections that several services share.
    pub shared: Arc<Shared>,
    /// The runtime that owns every client.
    pub main: &'static Runtime,
    /// Keeps its actors alive.
    pub supervisor: Supervisor,
    /// Broker, database, time and randomness; the pool acts as the service's role. None where it needs neither.
    pub dependencies: Option<Dependencies>,
    /// Told when the process is asked to end, before its listeners are stopped: whoever holds connections open lets go of them.
    pub stopping: Shutdown,
    /// Liveness and readiness of the process.
    pub health: Health,
    /// Every enabled service with public routes.
    pub peers: Vec<Peer>,
    /// What an operator is shown of the installation.
    pub installation: Installation,
}

impl Context {
    /// Broker, database, time and randomness.
    ///
    /// # Errors
    /// When the service's definition says that it needs no database.
    pub fn dependencies(&self) -> Result<&Dependencies, StartError> {
        let missing = || StartError::told("the service's definition names no need of a database");
        self.dependencies.as_ref().ok_or_else(missing)
    }

    /// A client of the object store.
    ///
    /// # Errors
    /// When the section `storage` cannot be used.
    pub fn objects(&self) -> Result<Objects, StartError> {
        Objects::new(&self.shared.storage).map_err(StartError::of)
    }
}
