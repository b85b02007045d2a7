//! Discovery as the binary's list has it: its section, what it needs and consumes, and how it starts.

use std::sync::Arc;

use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec, relay::Wake};
use orrery_config::{Section, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{BrokerNeed, Checked, Context, Definition, Needs, Service, StartError, Started, read};
use orrery_supervise::clock::Clock;
use tokio::runtime::Handle;

use crate::{
    config::Config,
    events,
    http::Keys,
    routes::ROUTES,
    service::{Discovery, Parts, accounts},
};

/// Its name and its events' source.
pub const DISCOVERY: ServiceId = ServiceId::new("discovery", "com.gravitalia.discovery");

/// Peers.
pub static SERVICE: Definition = Definition {
    service: DISCOVERY,
    about: "peers that find each other: presence, offers, messages for those who are away",
    routes: ROUTES,
    bridge_queues: &[],
    read: |source| read(source, DISCOVERY.name(), Configured),
};

/// Discovery with its settings.
struct Configured(Config);

#[async_trait]
impl Service for Configured {
    fn section(&self) -> &dyn Section {
        &self.0
    }

    fn shown(&self) -> Result<toml::Table, toml::ser::Error> {
        toml::Table::try_from(&self.0)
    }

    fn needs(&self, _: &Shared) -> Needs {
        // Without the broker its own peers find each other; those of other replicas are not seen meanwhile.
        Needs { database: true, broker: BrokerNeed::Degraded, discovery_key: true, ..Needs::default() }
    }

    fn handlers(&self, _: &Shared) -> Vec<HandlerSpec> {
        vec![events::spec(&self.0)]
    }

    async fn check(&self, _: &Shared) -> Vec<Checked> {
        let told = |error: reqwest::Error| Err(error.to_string());
        let keys = match Keys::new(&self.0, Clock::System, Handle::current()) {
            Ok(keys) if keys.probe().await => {
                Ok(format!("{} gives the keys of access tokens", self.0.jwks_url))
            }
            Ok(_) => Err(format!(
                "{} gives no keys: start autha there, or change discovery.jwks_url",
                self.0.jwks_url
            )),
            Err(error) => told(error),
        };
        vec![Checked::new("autha", keys)]
    }

    fn handler(&self, _: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        let lifetime = context.shared.broker.event_lifetime;
        Ok(accounts(&self.0, lifetime, context.dependencies()?, Wake::default()))
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let shared = &context.shared;
        let parts = Parts {
            config: self.0.clone(),
            key: shared.keys.discovery().map_err(StartError::told)?,
            turn: self.0.turn.secret().map_err(StartError::told)?,
            event_lifetime: shared.broker.event_lifetime,
            keep_sent: shared.retention.sent,
            dependencies: context.dependencies()?.clone(),
            main: context.main.handle().clone(),
            stopping: context.stopping.clone(),
        };
        let Discovery { server, application } =
            Discovery::start(parts, &context.supervisor, context.health.clone()).map_err(StartError::of)?;
        Ok(Started {
            servers: vec![(DISCOVERY.name(), server)],
            application: Some(application),
            ..Started::default()
        })
    }
}
