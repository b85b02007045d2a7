//! Partners as the binary's list has it: its section, what it needs and consumes, and how it starts.

use std::sync::Arc;

use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec};
use orrery_config::{Section, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{BrokerNeed, Context, Definition, Needs, Service, StartError, Started, Webhooks, read};

use crate::{
    config::Config,
    deliver::tail::Bell,
    handler,
    routes::ROUTES,
    service::{self, Parts},
    shown::Shown,
};

/// Its name and its events' source.
pub const PARTNERS: ServiceId = ServiceId::new("partners", "com.gravitalia.partners");

/// Third parties over HTTP.
pub static SERVICE: Definition = Definition {
    service: PARTNERS,
    about: "third parties publish and subscribe over HTTP",
    routes: ROUTES,
    bridge_queues: &[],
    read: |source| read(source, PARTNERS.name(), Configured),
};

/// Partners with its settings.
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
        // Without the broker what partners send waits in the outbox, and endpoints get what is in the log.
        Needs {
            database: true,
            broker: BrokerNeed::Degraded,
            master_key: !self.0.has_key(),
            mail_key: true,
            ..Needs::default()
        }
    }

    fn handlers(&self, _: &Shared) -> Vec<HandlerSpec> {
        vec![handler::spec(&self.0)]
    }

    fn webhooks(&self) -> Option<Arc<dyn Webhooks>> {
        Some(Arc::new(Shown))
    }

    fn handler(&self, _: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        let dependencies = context.dependencies()?;
        Ok(handler::handler(&self.0, dependencies.pool.clone(), Bell::default()))
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let shared = &context.shared;
        let parts = Parts {
            config: self.0.clone(),
            configured: shared.broker.partners.clone(),
            event_lifetime: shared.broker.event_lifetime,
            keep_sent: shared.retention.sent,
            sealing: self.0.keys(&shared.keys).map_err(StartError::told)?,
            mail: shared.keys.mail().map_err(StartError::told)?,
            dependencies: context.dependencies()?.clone(),
            main: context.main.handle().clone(),
        };
        let (server, application) =
            service::start(parts, &context.supervisor, context.health.clone()).map_err(StartError::of)?;
        Ok(Started {
            servers: vec![(PARTNERS.name(), server)],
            application: Some(application),
            ..Started::default()
        })
    }
}
