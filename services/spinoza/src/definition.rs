//! Spinoza as the binary's list has it: its section, what it needs and consumes, and how it starts.

use std::sync::Arc;

use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec, bridge::BridgeSpec, relay::Wake};
use orrery_config::{Section, shared::Shared};
use orrery_picture_worker::Launch;
use orrery_schemas::services::ServiceId;
use orrery_service::{BrokerNeed, Context, Definition, Needs, Service, StartError, Started, read};
use orrery_web::health::Dependency;

use crate::{
    accounts,
    config::Config,
    notifications, optimizer,
    service::{self, Parts},
    writes::Writes,
};

/// Its name and its events' source.
pub const SPINOZA: ServiceId = ServiceId::new("spinoza", "com.gravitalia.spinoza");

/// The image optimiser.
pub static SERVICE: Definition = Definition {
    service: SPINOZA,
    about: "pictures into variants",
    routes: &[],
    bridge_queues: &[notifications::QUEUE],
    read: |source| read(source, SPINOZA.name(), Configured),
};

/// Spinoza with its settings.
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
        Needs { database: true, broker: BrokerNeed::Required, storage: true, ..Needs::default() }
    }

    fn handlers(&self, _: &Shared) -> Vec<HandlerSpec> {
        vec![optimizer::spec(&self.0), accounts::spec(&self.0)]
    }

    fn bridges(&self, shared: &Shared) -> Vec<BridgeSpec> {
        shared.storage.notifying_bucket().map(|_| notifications::bridge()).into_iter().collect()
    }

    fn handler(&self, name: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        let parts = self.parts(context)?;
        Ok(match name {
            accounts::NAME => service::deleted_accounts(&parts, Wake::default()),
            _ => service::handler(&parts, Wake::default()),
        })
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let parts = self.parts(context)?;
        service::start(&parts, &context.supervisor);
        // Pictures that wait are no reason to be sent no more of them: they wait in the queue.
        let writes = parts.writes;
        let pictures = Dependency::new("pictures", false, move || {
            let refusal = writes.refusal();
            async move { refusal.map_or(Ok(()), Err) }
        });
        Ok(Started { dependencies: vec![pictures], ..Started::default() })
    }
}

impl Configured {
    fn parts(&self, context: &Context) -> Result<Parts, StartError> {
        let shared = &context.shared;
        Ok(Parts {
            config: self.0.clone(),
            event_lifetime: shared.broker.event_lifetime,
            keep_sent: shared.retention.sent,
            objects: context.objects()?,
            notifying_bucket: shared.storage.notifying_bucket().map(str::to_owned),
            dependencies: context.dependencies()?.clone(),
            writes: Writes::default(),
            launch: Launch::this_program("picture-worker").map_err(StartError::of)?,
            main: context.main.handle().clone(),
        })
    }
}
