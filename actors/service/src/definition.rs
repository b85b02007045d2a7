//! The definition of a service: what it is called, what it serves, what it needs, and how it is read from the configuration and started.

use std::sync::Arc;

use actix_web::dev::Server;
use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec, bridge::BridgeSpec};
use orrery_config::{ConfigError, Section, Source, shared::Shared};
use orrery_schemas::{routes::Route, services::ServiceId};
use orrery_web::health::Dependency;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Advice, Application, Checked, Context, Mails, StartError, Webhooks};

/// One service, as data. Its crate exports one; the binary lists it.
pub struct Definition {
    /// Its name, which is also its section's, and its events' source.
    pub service: ServiceId,
    /// What it does, in a few words for a person.
    pub about: &'static str,
    /// The routes that the gateway lets the public reach.
    pub routes: &'static [Route],
    /// The queues that its bridges empty, turned on or not: what lies among their dead letters was written by others.
    pub bridge_queues: &'static [&'static str],
    /// Reads its section.
    pub read: fn(&Source) -> Result<Box<dyn Service>, ConfigError>,
}

/// What a process must have for a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// PostgreSQL, with the role `orrery_<name>`.
    pub database: bool,
    /// RabbitMQ.
    pub broker: BrokerNeed,
    /// The bucket.
    pub storage: bool,
    /// `keys.master`.
    pub master_key: bool,
    /// `keys.mail`.
    pub mail_key: bool,
    /// `keys.discovery`.
    pub discovery_key: bool,
}

/// What a service can do without RabbitMQ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerNeed {
    /// Everything.
    #[default]
    None,
    /// Its work: what is to be published waits in the outbox.
    Degraded,
    /// Nothing.
    Required,
}

/// A service that has started.
#[derive(Default)]
pub struct Started {
    /// Its listeners, to be awaited; they are stopped in the order in which the services started, the gateway's first.
    pub servers: Vec<(&'static str, Server)>,
    /// Its public routes, for a gateway in the same process.
    pub application: Option<Application>,
    /// What its readiness depends on beside the needs of its definition.
    pub dependencies: Vec<Dependency>,
}

/// A service by its section of the configuration.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Its settings, which check themselves.
    fn section(&self) -> &dyn Section;

    /// Its section as it is in force, secrets hidden.
    ///
    /// # Errors
    /// When a value has no place in TOML.
    fn shown(&self) -> Result<toml::Table, toml::ser::Error>;

    /// What it needs.
    fn needs(&self, shared: &Shared) -> Needs;

    /// What it consumes.
    fn handlers(&self, shared: &Shared) -> Vec<HandlerSpec> {
        let _ = shared;
        Vec::new()
    }

    /// The bridges that are turned on.
    fn bridges(&self, shared: &Shared) -> Vec<BridgeSpec> {
        let _ = shared;
        Vec::new()
    }

    /// Looks at what only it knows, for `orrery check`. What its needs say is looked at already.
    async fn check(&self, shared: &Shared) -> Vec<Checked> {
        let _ = shared;
        Vec::new()
    }

    /// What works, and should still be set before people use the installation.
    fn advice(&self) -> Vec<Advice> {
        Vec::new()
    }

    /// What it writes to people, as an operator is shown it; none where it writes nothing.
    ///
    /// # Errors
    /// Why it cannot be shown.
    fn mails(&self) -> Result<Option<Mails>, String> {
        Ok(None)
    }

    /// Third parties and their endpoints, as an operator is shown them; none where it delivers to nobody.
    fn webhooks(&self) -> Option<Arc<dyn Webhooks>> {
        None
    }

    /// The logic behind one of its handlers, for the process of a quarantine queue.
    ///
    /// # Errors
    /// When it cannot be put together.
    fn handler(&self, name: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        let _ = context;
        Err(StartError::told(format!("there is no handler '{name}'")))
    }

    /// Takes what can be replaced of its section while it runs. Settings that cannot be used change nothing.
    ///
    /// # Errors
    /// When they cannot be used.
    fn reload(&self, source: &Source) -> Result<(), StartError> {
        let _ = source;
        Ok(())
    }

    /// Starts its actors and its listeners.
    ///
    /// # Errors
    /// When a key, a thread or a listener cannot be had.
    fn start(&self, context: &Context) -> Result<Started, StartError>;
}

/// Reads the section of `name` and makes the service of it.
///
/// # Errors
/// When the section cannot be read.
pub fn read<C, S>(
    source: &Source,
    name: &str,
    service: impl FnOnce(C) -> S,
) -> Result<Box<dyn Service>, ConfigError>
where
    C: DeserializeOwned + Serialize + Default,
    S: Service,
{
    Ok(Box::new(service(source.section(name)?)))
}
