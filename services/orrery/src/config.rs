//! The whole configuration: the shared sections and one for each service of the list. Each section validates itself.

use std::{path::Path, sync::Arc, time::Duration};

use orrery_bus::{HandlerSpec, bridge::BridgeSpec};
use orrery_config::{ConfigError, Section, Source, shared::Shared, storage::Storage};
use orrery_observability::{Config as Telemetry, Log};
use orrery_service::{Definition, Needs, Service};
use serde::{Deserialize, Deserializer};

use crate::{
    backup::config::Backup,
    services::{SERVICES, by_default, names},
};

/// All sections.
pub struct Config {
    /// The log.
    pub log: Log,
    /// Where backups lie.
    pub backup: Backup,
    /// What goes to a collector.
    pub telemetry: Telemetry,
    /// What several services share.
    pub shared: Arc<Shared>,
    /// What was given, for what a command asks of one section.
    pub source: Source,
    services: Vec<Configured>,
}

/// A service of the list with its section.
pub struct Configured {
    /// What it is.
    pub definition: &'static Definition,
    /// What its section makes of it.
    pub service: Box<dyn Service>,
    /// Whether the configuration enables it, here or in another process.
    pub enabled: bool,
}

impl Configured {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.definition.service.name()
    }
}

/// Services as a list, or as a text with commas.
struct Names(Vec<String>);

impl Default for Names {
    fn default() -> Self {
        Self(by_default().map(str::to_owned).collect())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            Written::List(names) => names,
        }))
    }
}

impl Config {
    /// Reads `file`, if one is named, and the environment, and validates.
    ///
    /// # Errors
    /// When the file is missing, a value has the wrong type, a key is unknown, or a section is not valid.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let source = Source::read(file)?;
        let mut known = vec!["services", "log", "telemetry", "backup"];
        known.extend(Shared::NAMES);
        known.extend(names());
        let mut faults = source.unknown_sections(&known);
        let Names(wanted) = source.setting("services")?.unwrap_or_default();
        let services = SERVICES
            .iter()
            .map(|definition| {
                let service = (definition.read)(&source)?;
                let enabled = wanted.iter().any(|name| name == definition.service.name());
                Ok(Configured { definition, service, enabled })
            })
            .collect::<Result<_, ConfigError>>()?;
        let shared = Arc::new(Shared::read(&source)?);
        let (log, telemetry, backup) =
            (source.section("log")?, source.section("telemetry")?, source.section("backup")?);
        let config = Self { log, telemetry, backup, shared, source, services };
        config.validate(&wanted, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(faults)) }
    }

    fn validate(&self, wanted: &[String], faults: &mut Vec<String>) {
        let known = names();
        for name in wanted.iter().filter(|name| !known.contains(&name.as_str())) {
            faults.push(format!("services: '{name}' is no service; there are {}", known.join(", ")));
        }
        if wanted.is_empty() {
            faults.push(format!("services: is empty; name some of {}", known.join(", ")));
        }
        self.telemetry.validate(faults);
        self.shared.validate(faults);
        self.backup.validate(faults);
        let same = |storage: &&Storage| {
            (&storage.endpoint, &storage.bucket)
                == (&self.shared.storage.endpoint, &self.shared.storage.bucket)
        };
        if self.backup.storage.as_ref().filter(same).is_some() {
            faults.push("backup.storage: is the bucket of 'storage' itself; name another one".to_owned());
        }
        let shared = &self.shared;
        shared.retention.validate_inbox(shared.broker.event_lifetime, self.longest_retry(), faults);
        self.services.iter().for_each(|configured| configured.service.section().validate(faults));
    }

    fn longest_retry(&self) -> Duration {
        let specs = self.services.iter().flat_map(|configured| configured.service.handlers(&self.shared));
        specs.flat_map(|spec| spec.delays()).max().unwrap_or_default()
    }

    /// The enabled services, in the order in which they are started.
    pub fn enabled(&self) -> impl Iterator<Item = &Configured> {
        self.services.iter().filter(|configured| configured.enabled)
    }

    /// The names of the enabled services.
    pub fn enabled_names(&self) -> Vec<&'static str> {
        self.enabled().map(Configured::name).collect()
    }

    /// Whether some enabled service has such a need.
    pub fn needs(&self, need: impl Fn(&Needs) -> bool) -> bool {
        self.enabled().any(|configured| need(&configured.service.needs(&self.shared)))
    }

    /// The handlers of the enabled services.
    pub fn handlers(&self) -> Vec<HandlerSpec> {
        self.enabled().flat_map(|configured| configured.service.handlers(&self.shared)).collect()
    }

    /// The names of every service's handlers, enabled or not, and of bridges' queues.
    pub fn known_handlers(&self) -> Vec<&'static str> {
        let handlers = self.services.iter().flat_map(|configured| configured.service.handlers(&self.shared));
        let queues = SERVICES.iter().flat_map(|definition| definition.bridge_queues).copied();
        handlers.map(|spec| spec.name).chain(queues).collect()
    }

    /// The patterns of events that somebody is meant to get: what handlers bind, also those of services that are not enabled yet, and what partners receive.
    /// Who asks for whole families of types looks on: as long as it is not enabled, it misses nothing.
    pub fn wanted(&self) -> Vec<String> {
        let handlers = self.services.iter().flat_map(|configured| {
            let enabled = configured.enabled;
            let mut specs = configured.service.handlers(&self.shared);
            for spec in &mut specs {
                spec.bindings.retain(|pattern| enabled || !pattern.contains(['*', '#']));
            }
            specs
        });
        let partners = self.shared.broker.partners.iter().flat_map(|partner| partner.receives.clone());
        handlers.flat_map(|spec| spec.bindings).map(str::to_owned).chain(partners).collect()
    }

    /// The bridges that are turned on, here or in another process: their queues are made before anything reads them.
    pub fn bridges(&self) -> Vec<BridgeSpec> {
        self.enabled().flat_map(|configured| configured.service.bridges(&self.shared)).collect()
    }

    /// As TOML with every secret hidden. What came from a file is left to the file, so that nothing is given twice when it is read again.
    ///
    /// # Errors
    /// When a value has no place in TOML, such as a number beyond 63 bits.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut sections = toml::Table::new();
        sections.insert("services".to_owned(), toml::Value::try_from(self.enabled_names())?);
        sections.insert("log".to_owned(), toml::Value::try_from(&self.log)?);
        sections.insert("backup".to_owned(), toml::Value::try_from(&self.backup)?);
        sections.insert("telemetry".to_owned(), toml::Value::try_from(&self.telemetry)?);
        sections.extend(toml::Table::try_from(&*self.shared)?);
        for configured in &self.services {
            sections.insert(configured.name().to_owned(), configured.service.shown()?.into());
        }
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

    use orrery_config::{partner::is_reserved, secret::HIDDEN};

    use super::*;

    /// Reads a configuration as the binary does.
    fn read(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orrery.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file)).unwrap()
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
        let example = Config::load(Some(&example)).unwrap();
        assert_eq!(example.shown().unwrap(), Config::load(None).unwrap().shown().unwrap());
    }

    #[test]
    fn a_name_that_is_no_service_is_told_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orrery.toml");
        std::fs::write(&file, "services = ['autha', 'mailly']\n[mailly]\nx = 1\n").unwrap();
        let fault = Config::load(Some(&file)).err().unwrap().to_string();
        assert!(fault.contains("services: 'mailly' is no service; there are autha, maily"), "{fault}");
        assert!(fault.contains("mailly: there is no such setting"), "{fault}");
    }

    #[test]
    fn a_handler_hears_our_own_events_or_foreign_ones_and_never_both() {
        for spec in Config::load(None).unwrap().handlers() {
            let ours = spec.bindings.iter().filter(|ty| is_reserved(ty)).count();
            assert!(ours == 0 || ours == spec.bindings.len(), "{} hears both", spec.name);
        }
    }
}
