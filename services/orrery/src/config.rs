//! The whole configuration: the sections of every service, put together. Each section validates itself.

use std::time::Duration;

use orrery_actors::config::{
    Section, broker::Broker, database::Database, keys::Keys, listen::Internal, retention::Retention,
    storage::Storage,
};
use orrery_observability::Log;
use orrery_schemas::services::Service;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::wiring;

/// All sections.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
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

    /// As TOML with every secret hidden. What came from a file is left to the file, so that nothing is given twice when it is read again.
    ///
    /// # Errors
    /// When a value has no place in TOML, such as a number beyond 63 bits.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut sections = toml::Table::try_from(self)?;
        for section in sections.iter_mut().filter_map(|(_, value)| value.as_table_mut()) {
            let from_files: Vec<String> =
                section.keys().filter_map(|key| key.strip_suffix("_file")).map(str::to_owned).collect();
            section.retain(|key, _| !from_files.iter().any(|from_file| from_file == key));
        }
        toml::to_string(&sections)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use orrery_actors::config::{load, secret::HIDDEN};

    use super::*;

    /// Reads a configuration as the binary does.
    fn read(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orrery.toml");
        std::fs::write(&file, text).unwrap();
        load(Some(&file)).unwrap()
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("url");
        std::fs::write(&url, "amqp://somebody:hunter2@broker/%2f").unwrap();
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let written = format!(
            "services = 'autha, maily'\n[log]\nformat = 'json'\n[database]\nurl = 'postgres://u:hunter2@db/orrery'\nwait_timeout = '1500ms'\n\
             [broker]\nurl_file = {url:?}\n[keys]\nmaster = '{key}'\nmail_previous = ['{key}', '{key}']\n\
             [autha]\ninvites = ['hunter2']\n[maily.smtp]\nport = 2525\npassword = 'hunter2'\n"
        );
        let shown = read(&written).shown().unwrap();
        assert!(!shown.contains("hunter2") && !shown.contains(key), "{shown}");
        assert!(shown.contains("wait_timeout = \"1s 500ms\""), "{shown}");
        assert!(shown.contains("url_file = "), "{shown}");
        assert_eq!(shown.matches(HIDDEN).count(), 6, "{shown}");
        // Whoever copies it fills in what is hidden.
        let filled = shown
            .replacen(&format!("url = \"{HIDDEN}\""), "url = \"postgres://u:hunter2@db/orrery\"", 1)
            .replace(HIDDEN, key);
        assert_eq!(read(&filled).shown().unwrap(), shown);
    }

    #[test]
    fn the_example_holds_every_default() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../orrery.example.toml");
        let example: Config = load(Some(&example)).unwrap();
        assert_eq!(example.shown().unwrap(), Config::default().shown().unwrap());
    }
}
