//! The whole configuration: the sections of every service, put together. Each section validates itself.

use std::time::Duration;

use orrery_actors::config::{
    Section, broker::Broker, database::Database, keys::Keys, listen::Internal, retention::Retention,
    storage::Storage,
};
use orrery_observability::Log;
use orrery_schemas::services::Service;
use serde::{Deserialize, Deserializer, de::Error};

use crate::wiring;

/// All sections.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The enabled services.
    pub services: Services,
    pub log: Log,
    pub internal: Internal,
    pub database: Database,
    pub broker: Broker,
    pub retention: Retention,
    pub storage: Storage,
    pub keys: Keys,
    pub gateway: orrery_gateway::config::Config,
    pub autha: orrery_autha::config::Config,
    pub spinoza: orrery_spinoza::config::Config,
    pub maily: orrery_maily::config::Config,
}

/// Services as a list, or as a text with commas.
#[derive(Debug, Clone)]
pub struct Services(pub Vec<Service>);

impl Default for Services {
    fn default() -> Self {
        Self(Service::ALL.to_vec())
    }
}

impl<'de> Deserialize<'de> for Services {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        let names = match Written::deserialize(deserializer)? {
            Written::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            Written::List(names) => names,
        };
        names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect::<Result<_, _>>().map(Self)
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        self.internal.validate(faults);
        self.database.validate(faults);
        self.broker.validate(faults);
        self.retention.validate(faults);
        self.retention.validate_inbox(self.broker.event_lifetime, self.longest_retry(), faults);
        self.storage.validate(faults);
        self.keys.validate(faults);
        self.gateway.validate(faults);
        self.autha.validate(faults);
        self.spinoza.validate(faults);
        Section::validate(&self.maily, faults);
        if self.services.0.is_empty() {
            faults.push("services: is empty; name gateway, autha, spinoza or maily".to_owned());
        }
    }
}

impl Config {
    fn longest_retry(&self) -> Duration {
        let specs = Service::ALL.into_iter().flat_map(|service| wiring::handlers(self, service));
        specs.flat_map(|spec| spec.delays()).max().unwrap_or_default()
    }

    /// Whether the configuration enables a service, here or in another process.
    pub fn enables(&self, service: Service) -> bool {
        self.services.0.contains(&service)
    }
}
