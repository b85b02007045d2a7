//! Maily as the binary's list has it: its section, what it needs and consumes, and how it starts.

use std::sync::Arc;

use async_trait::async_trait;
use orrery_bus::{Handler, HandlerSpec, bridge::BridgeSpec, relay::Wake};
use orrery_config::{Section, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{
    Advice, BrokerNeed, Checked, Context, Definition, Mails, Needs, Service, StartError, Started, read,
};
use orrery_web::health::Dependency;

use crate::{
    accounts,
    config::{Config, TransportKind},
    handler, legacy,
    render::Renderer,
    service::{self, Parts},
    state::State,
};

/// Its name and its events' source.
pub const MAILY: ServiceId = ServiceId::new("maily", "com.gravitalia.maily");

/// Mail.
pub static SERVICE: Definition = Definition {
    service: MAILY,
    about: "mails",
    routes: &[],
    bridge_queues: &[legacy::LEGACY_QUEUE],
    read: |source| read(source, MAILY.name(), Configured),
};

/// Maily with its settings.
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
        Needs { database: true, broker: BrokerNeed::Required, mail_key: true, ..Needs::default() }
    }

    fn handlers(&self, _: &Shared) -> Vec<HandlerSpec> {
        vec![handler::spec(&self.0), accounts::spec(&self.0)]
    }

    fn bridges(&self, _: &Shared) -> Vec<BridgeSpec> {
        self.0.legacy_queue.then(legacy::bridge).into_iter().collect()
    }

    async fn check(&self, _: &Shared) -> Vec<Checked> {
        let ready = service::probe(&self.0).await.map(|()| "ready".to_owned());
        vec![Checked::new("mail", ready)]
    }

    fn advice(&self) -> Vec<Advice> {
        let captured = (self.0.transport == TransportKind::Capture).then(|| Advice {
            what: "mail",
            text: format!(
                "mails are kept in {} and reach nobody: set maily.transport to smtp, and [maily.smtp] to your mail server",
                self.0.capture_dir.display()
            ),
        });
        captured.into_iter().collect()
    }

    fn mails(&self) -> Result<Option<Mails>, String> {
        let captured = (self.0.transport == TransportKind::Capture).then(|| self.0.capture_dir.clone());
        let renderer = Renderer::new(&self.0).map_err(|error| error.to_string())?;
        let previews = renderer.previews().map_err(|error| error.to_string())?;
        Ok(Some(Mails { captured, previews }))
    }

    fn handler(&self, name: &str, context: &Context) -> Result<Arc<dyn Handler>, StartError> {
        let parts = self.parts(context)?;
        match name {
            accounts::QUEUE => Ok(service::deleted_accounts(&parts, Wake::default())),
            _ => service::handler(&parts).map_err(StartError::of),
        }
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let parts = self.parts(context)?;
        let state = parts.state.clone();
        service::start(&parts, &context.supervisor).map_err(StartError::of)?;
        // Mail that waits is no reason to be sent no more of it: it waits in the queue.
        let mail = Dependency::new("mail", false, move || {
            let waits_for = state.waits_for();
            async move { waits_for.map_or(Ok(()), Err) }
        });
        Ok(Started { dependencies: vec![mail], ..Started::default() })
    }
}

impl Configured {
    fn parts(&self, context: &Context) -> Result<Parts, StartError> {
        Ok(Parts {
            config: self.0.clone(),
            mail: context.shared.keys.mail().map_err(StartError::told)?,
            event_lifetime: context.shared.broker.event_lifetime,
            keep_sent: context.shared.retention.sent,
            dependencies: context.dependencies()?.clone(),
            state: State::default(),
        })
    }
}
