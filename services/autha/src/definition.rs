//! Autha as the binary's list has it: its section, what it needs and consumes, and how it starts.

use std::sync::Arc;

use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec, relay::Wake};
use orrery_config::{Section, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{Advice, BrokerNeed, Context, Definition, Needs, Service, StartError, Started, read};
use orrery_web::health::Dependency;

use crate::{
    account::receipts,
    config::Config,
    key::KeySet,
    picture::results,
    routes::ROUTES,
    service::{Autha, Parts, pictures_handler, receipts_handler},
};

/// Its name and its events' source.
pub const AUTHA: ServiceId = ServiceId::new("autha", "com.gravitalia.autha");

/// The account broker.
pub static SERVICE: Definition = Definition {
    service: AUTHA,
    about: "accounts, sessions, tokens, uploads of pictures",
    routes: ROUTES,
    bridge_queues: &[],
    read: |source| read(source, AUTHA.name(), Configured),
};

/// Autha with its settings.
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
        // Without the broker it works into its outbox; without the bucket only pictures wait.
        Needs {
            database: true,
            broker: BrokerNeed::Degraded,
            storage: true,
            master_key: true,
            mail_key: true,
            ..Needs::default()
        }
    }

    fn handlers(&self, _: &Shared) -> Vec<HandlerSpec> {
        vec![results::spec(&self.0), receipts::spec(self.0.retry_delay)]
    }

    fn advice(&self) -> Vec<Advice> {
        let url = &self.0.public_url;
        if url.scheme() == "https" {
            return Vec::new();
        }
        let text = format!(
            "people, tokens and links in mails are led to {url}: set autha.public_url to the https address of your domain"
        );
        vec![Advice { what: "domain", text }]
    }

    fn handler(&self, name: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        if name == receipts::NAME {
            return Ok(receipts_handler(&self.0, context.dependencies()?));
        }
        let lifetime = context.shared.broker.event_lifetime;
        Ok(pictures_handler(&self.0, lifetime, context.dependencies()?, Wake::default()))
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let keys = KeySet::default();
        let parts = self.parts(context, keys.clone())?;
        let Autha { server, application } =
            Autha::start(parts, &context.supervisor, context.health.clone()).map_err(StartError::of)?;
        let loaded = Dependency::new("signing keys", true, move || {
            let loaded = keys.is_loaded();
            async move { if loaded { Ok(()) } else { Err("none was loaded from the database yet".to_owned()) } }
        });
        Ok(Started {
            servers: vec![(AUTHA.name(), server)],
            application: Some(application),
            dependencies: vec![loaded],
        })
    }
}

impl Configured {
    fn parts(&self, context: &Context, keys: KeySet) -> Result<Parts, StartError> {
        let shared = &context.shared;
        Ok(Parts {
            config: self.0.clone(),
            event_lifetime: shared.broker.event_lifetime,
            keep_sent: shared.retention.sent,
            uploaded_events: shared.storage.uploaded_events,
            master: shared.keys.master().map_err(StartError::told)?,
            mail: shared.keys.mail().map_err(StartError::told)?,
            keys,
            redis: shared
                .redis
                .address()
                .map_err(StartError::told)?
                .map(|address| (address, shared.redis.timeout)),
            objects: context.objects()?,
            dependencies: context.dependencies()?.clone(),
            main: context.main.handle().clone(),
        })
    }
}
