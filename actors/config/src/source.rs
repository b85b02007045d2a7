//! Where the configuration comes from: one TOML file, overridden by `ORRERY_*` variables. Each section is read from here by its own type.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use serde::de::DeserializeOwned;

use super::{ConfigError, Section, fault::Fault, secret, service_links, value::Value};

/// The prefix of the variables; sections and fields are separated by two underscores (`ORRERY_DATABASE__URL`).
pub const PREFIX: &str = "ORRERY_";

/// Variables with the prefix that are no settings: the configuration file's own, and two that tests use.
const OTHERS: &[&str] = &["CONFIG", "BIN", "PROFILE"];

/// Addresses with a password in them, which may stand in a file as `<path>_file` names it.
const ADDRESSES: [&str; 3] = ["database.url", "broker.url", "broker.management_url"];

/// Everything that was written, not yet read by a section.
#[derive(Clone)]
pub struct Source {
    sections: BTreeMap<String, Value>,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the values: some are secret.
        f.debug_struct("Source").field("sections", &self.sections.keys()).finish_non_exhaustive()
    }
}

impl Source {
    /// Reads `file`, if one is named, and the environment.
    ///
    /// # Errors
    /// When the file is missing or no TOML, or two variables say one thing.
    pub fn read(file: Option<&Path>) -> Result<Self, ConfigError> {
        let written = match file {
            None => toml::Table::new(),
            Some(file) if !file.is_file() => return Err(ConfigError::Missing(file.to_owned())),
            Some(file) => {
                let fault = |fault: String| ConfigError::Invalid(vec![format!("{}{fault}", file.display())]);
                let text = secret::read_text(file).map_err(|error| fault(format!(" {error}")))?;
                parse(&text).map_err(fault)?
            }
        };
        Self::of(written, std::env::vars_os())
    }

    /// The same of a text and of variables that are given.
    ///
    /// # Errors
    /// When the text is no TOML, or two variables say one thing.
    pub fn parse(
        text: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let written =
            parse(text).map_err(|fault| ConfigError::Invalid(vec![format!("the configuration{fault}")]))?;
        Self::of(written, variables)
    }

    fn of(
        written: toml::Table,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut sections: BTreeMap<String, Value> =
            written.into_iter().map(|(key, value)| (key, value.into())).collect();
        let (mut faults, mut links) = (Vec::new(), Vec::new());
        let mut from_variables = BTreeMap::new();
        for (name, text) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let key = name.strip_prefix(PREFIX).unwrap_or_default();
            if OTHERS.iter().any(|other| key.eq_ignore_ascii_case(other)) {
                continue;
            }
            match text.to_str() {
                Some(text) if service_links::is_link(key, text) => links.push(name.to_owned()),
                Some(text) => {
                    // A line's end is no part of what a file's content or a command's output was meant to say.
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    if from_variables.insert(key.to_ascii_lowercase(), text).is_some() {
                        faults.push(format!("{name}: is set twice, in small and in capital letters"));
                    }
                }
                None => faults.push(format!("{name}: is no UTF-8")),
            }
        }
        // In the order of their names: what is given as a whole comes before its parts.
        let mut wholes: Vec<String> = Vec::new();
        for (key, text) in from_variables {
            let path: Vec<&str> = key.split("__").collect();
            if let Some(whole) = wholes.iter().find(|whole| key.starts_with(&format!("{whole}__"))) {
                let (whole, part) = (whole.to_uppercase(), key.to_uppercase());
                faults.push(format!(
                    "{PREFIX}{part}: {PREFIX}{whole} gives all of it already; leave out one of them"
                ));
            } else {
                put(&mut sections, &path, Value::Text(text));
                wholes.push(key);
            }
        }
        let mut source = Self { sections, warnings: Vec::new() };
        source.warnings.extend(service_links::warning(&mut links));
        for path in ADDRESSES {
            faults.extend(source.resolve(path).err());
        }
        if faults.is_empty() { Ok(source) } else { Err(ConfigError::Invalid(faults)) }
    }

    /// What an operator should know of it: a line each, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One section by its own type; one that is not written is read as an empty table. It is not validated.
    ///
    /// # Errors
    /// The fault of the first field that its type cannot read, with the field's path.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let value = self.sections.get(name).cloned().unwrap_or_else(|| Value::Table(BTreeMap::new()));
        T::deserialize(value).map_err(|fault| invalid(fault.within(name)))
    }

    /// A setting that stands outside every section, if it is written.
    ///
    /// # Errors
    /// When its type cannot read it.
    pub fn setting<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ConfigError> {
        let value = self.sections.get(name).cloned();
        value.map(|value| T::deserialize(value).map_err(|fault| invalid(fault.within(name)))).transpose()
    }

    /// A line for each section, or setting outside one, that is not among `known`.
    pub fn unknown_sections(&self, known: &[&str]) -> Vec<String> {
        let unknown = self.sections.keys().filter(|name| !known.contains(&name.as_str()));
        unknown
            .map(|name| format!("{name}: there is no such setting; those here are {}", known.join(", ")))
            .collect()
    }

    /// All of it by one type, validated.
    ///
    /// # Errors
    /// When a field cannot be read, a key is unknown, or a section is not valid.
    pub fn all<T: DeserializeOwned + Section>(&self) -> Result<T, ConfigError> {
        let config = T::deserialize(Value::Table(self.sections.clone())).map_err(invalid)?;
        let mut faults = Vec::new();
        config.validate(&mut faults);
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(faults)) }
    }

    /// Puts the content of `<path>_file`, if that is given, in the place of `path`.
    fn resolve(&mut self, path: &str) -> Result<(), String> {
        let keys: Vec<&str> = path.split('.').collect();
        let file_keys: Vec<String> = path
            .split('.')
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .split_last()
            .map_or_else(Vec::new, |(last, before)| {
                before.iter().cloned().chain([format!("{last}_file")]).collect()
            });
        let file = match self.find(&file_keys.iter().map(String::as_str).collect::<Vec<_>>()) {
            Some(Value::Text(file) | Value::Scalar(toml::Value::String(file))) if !file.is_empty() => {
                file.clone()
            }
            // One of another type is told by its section.
            _ => return Ok(()),
        };
        // A variable that is set to nothing is not set.
        if self.find(&keys).is_some_and(|value| !matches!(value, Value::Text(text) if text.is_empty())) {
            return Err(format!("{path}: is given twice; leave out either {path} or {path}_file"));
        }
        let text =
            secret::read_text(Path::new(&file)).map_err(|error| format!("{path}_file: {file} {error}"))?;
        put(&mut self.sections, &keys, Value::Text(text));
        Ok(())
    }

    fn find(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.sections.get(*first)?, |value, key| match value {
            Value::Table(table) => table.get(*key),
            _ => None,
        })
    }
}

fn invalid(fault: Fault) -> ConfigError {
    ConfigError::Invalid(vec![fault.to_string()])
}

/// Sets the value at a path; what stands in the way of it is replaced, as a variable overrides the file.
fn put(table: &mut BTreeMap<String, Value>, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return;
    }
    let inner = table.entry((*first).to_owned()).or_insert_with(|| Value::Table(BTreeMap::new()));
    if !matches!(inner, Value::Table(_)) {
        *inner = Value::Table(BTreeMap::new());
    }
    if let Value::Table(inner) = inner {
        put(inner, rest, value);
    }
}

/// Reads TOML. The fault names the line and never quotes it: it may hold a secret.
fn parse(text: &str) -> Result<toml::Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!(", line {line}: {}", error.message().replace('\n', ", "))
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{broker::Broker, database::Database, storage::Storage};

    fn source(text: &str, variables: &[(&str, &str)]) -> Result<Source, String> {
        let variables = variables.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Source::parse(text, variables).map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_overrides_the_file_and_is_read_by_its_field() {
        let source = source(
            "[storage]\nbucket = 'other'\nregion = 'eu'",
            &[
                ("ORRERY_STORAGE__BUCKET", "007007"),
                ("ORRERY_DATABASE__POOL_SIZE", "9"),
                ("ORRERY_BROKER__PARTNERS", "[{name = 'acme', receives = ['a.b']}]"),
                ("ORRERY_CONFIG", "/x"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        let storage: Storage = source.section("storage").unwrap();
        assert_eq!((storage.bucket.as_str(), storage.region.as_str()), ("007007", "eu"));
        assert_eq!(source.section::<Database>("database").unwrap().pool_size, 9);
        assert_eq!(source.section::<Broker>("broker").unwrap().partners[0].name, "acme");
        assert_eq!(source.unknown_sections(&["database", "storage", "broker"]), [""; 0]);
        assert!(source.unknown_sections(&["database", "storage"])[0].starts_with("broker: there is no such"));
    }

    #[test]
    fn service_links_of_kubernetes_are_no_settings_and_a_typo_is_one() {
        let read =
            source("", &[("ORRERY_PORT", "tcp://10.0.0.1:8080"), ("ORRERY_DATABASE__ULR", "x")]).unwrap();
        assert_eq!(read.unknown_sections(&["database"]), [""; 0]);
        assert!(read.warnings()[0].contains("enableServiceLinks"), "{:?}", read.warnings());
        let fault = read.section::<Database>("database").unwrap_err().to_string();
        assert!(fault.contains("database.ulr: there is no such setting; those here are url"), "{fault}");
        assert!(
            !source("", &[("ORRERY_PROT", "tcp://10.0.0.1:8080")]).unwrap().unknown_sections(&[]).is_empty()
        );
    }

    #[test]
    fn what_is_said_twice_is_a_fault() {
        let twice = [("ORRERY_LOG", "{level = 'info'}"), ("ORRERY_LOG__LEVEL", "debug")];
        let fault = source("", &twice).unwrap_err();
        assert!(fault.contains("ORRERY_LOG__LEVEL: ORRERY_LOG gives all of it already"), "{fault}");
        let twice = [("ORRERY_LOG__LEVEL", "a"), ("ORRERY_log__level", "b")];
        assert!(source("", &twice).unwrap_err().contains("is set twice"));
    }

    #[test]
    fn an_address_may_stand_in_a_file_with_a_mark_and_a_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "\u{feff}postgres://somebody:secret@db/orrery\r\n").unwrap();
        let name = ("ORRERY_DATABASE__URL_FILE", file.to_str().unwrap());
        let database: Database = source("", &[name]).unwrap().section("database").unwrap();
        assert_eq!(database.url.expose_secret(), "postgres://somebody:secret@db/orrery");
        let twice = source("[database]\nurl = 'postgres://x'", &[name]).unwrap_err();
        assert!(twice.contains("database.url: is given twice"), "{twice}");
        let unset = source("", &[name, ("ORRERY_DATABASE__URL", "")]);
        assert!(unset.is_ok(), "{unset:?}");
        let missing = source("", &[("ORRERY_BROKER__URL_FILE", "/missing")]).unwrap_err();
        assert!(missing.contains("broker.url_file: /missing cannot be read"), "{missing}");
    }

    #[test]
    fn a_fault_of_the_file_names_the_line_and_hides_it() {
        for text in ["[database]\nurl = \"se\\cret\"", "[database]\nurl = 5391739517395173951739517"] {
            let error = source(text, &[]).unwrap_err();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("cret") && !error.contains("539173"), "{error}");
        }
        let shown = format!("{:?}", source("[database]\nurl = 'secret'", &[]).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
