//! The console as the binary's list has it: its section, what it needs, and how it starts.

use async_trait::async_trait;
use orrery_config::{Section, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{Checked, Context, Definition, Needs, Service, StartError, Started, read};

use crate::{config::Config, service};

/// Its name and its role's.
pub const CONSOLE: ServiceId = ServiceId::new("console", "com.gravitalia.console");

/// What the operator sees and does.
pub static SERVICE: Definition = Definition {
    service: CONSOLE,
    about: "pages for operators: queues, dead letters, actors",
    // On a listener of its own: the gateway leads nobody here.
    routes: &[],
    bridge_queues: &[],
    read: |source| read(source, CONSOLE.name(), Configured),
};

/// The console with its settings.
struct Configured(Config);

#[async_trait]
impl Service for Configured {
    fn section(&self) -> &dyn Section {
        &self.0
    }

    fn shown(&self) -> Result<toml::Table, toml::ser::Error> {
        toml::Table::try_from(&self.0)
    }

    /// Nothing: it opens also while database and broker are away, and says so.
    fn needs(&self, _: &Shared) -> Needs {
        Needs::default()
    }

    async fn check(&self, shared: &Shared) -> Vec<Checked> {
        let ring = self.0.ring(&shared.keys);
        vec![Checked::new("console", ring.map(|_| format!("logs in by its key, on {}", self.0.base())))]
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        service::start(&self.0, context)
    }
}
