//! Loading of the configuration: one TOML file, overridden by `ORRERY_*` variables, and the sections that several services share.
//! A service's own section lives in its crate; the binary puts them together.

pub mod address;
pub mod broker;
pub mod database;
pub mod keys;
pub mod listen;
pub mod partner;
pub mod retention;
pub mod secret;
pub mod storage;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Toml},
};
use serde::de::DeserializeOwned;

/// The prefix of the variables; sections and fields are separated by two underscores (`ORRERY_DATABASE__URL`).
pub const PREFIX: &str = "ORRERY_";

/// The fields that take what stands in their variable as it is, instead of reading it as TOML.
const TEXTS: &[&str] =
    &["url", "management_url", "username", "password", "access_key", "secret_key", "master", "mail"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named is not there.
    #[error("the configuration file {} is not there", .0.display())]
    Missing(PathBuf),
    /// It cannot be read; the text names the path of the field.
    #[error("{0}")]
    Unreadable(Box<figment::Error>),
    /// It was read and is wrong; a line for each fault, each with the path of its field.
    #[error("the configuration is not valid:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

/// A section that checks itself.
pub trait Section {
    /// Adds a line to `faults` for each fault: `path.of.field: what is wrong and what to do`.
    fn validate(&self, faults: &mut Vec<String>);
}

/// Reads `file`, if one is named, and the environment, and validates.
///
/// # Errors
/// When the file is missing, a value has the wrong type, a key is unknown, or a section is not valid.
pub fn load<T: DeserializeOwned + Section>(file: Option<&Path>) -> Result<T, ConfigError> {
    let mut figment = Figment::new();
    if let Some(file) = file {
        if !file.is_file() {
            return Err(ConfigError::Missing(file.to_owned()));
        }
        check_syntax(file)?;
        figment = figment.merge(Toml::file_exact(file));
    }
    let variables = Env::prefixed(PREFIX).ignore(&["config", "bin", "profile"]).split("__");
    let mut figment = figment.merge(variables.clone());
    // A password of digits is no number.
    for (path, text) in variables.iter().filter(|(path, _)| is_text(path.as_str())) {
        figment = figment.merge((path.as_str(), plain(&text)));
    }
    let figment = with_files(figment)?;
    let config: T = figment.extract().map_err(unreadable)?;
    let mut faults = Vec::new();
    config.validate(&mut faults);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(faults)) }
}

/// Finds what is no TOML before figment does, whose fault quotes the line, and the secret in it.
fn check_syntax(file: &Path) -> Result<(), ConfigError> {
    let fault = |fault: String| ConfigError::Invalid(vec![format!("{}{fault}", file.display())]);
    let text = std::fs::read_to_string(file).map_err(|error| fault(format!(": cannot be read: {error}")))?;
    text.parse::<toml::Table>().map(drop).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        fault(format!(", line {line}: {}", error.message().replace('\n', ", ")))
    })
}

/// Whether a field holds text of any kind, by its path; most of it is secret.
fn is_text(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path);
    TEXTS.contains(&name)
}

/// Without the white space around it, such as the end of a file's line, and the quotes that TOML would want.
fn plain(text: &str) -> &str {
    let text = text.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.unwrap_or(text)
}

/// A fault that shows no secret: figment's own words for a wrong type name the value.
fn unreadable(error: figment::Error) -> ConfigError {
    match &error.kind {
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) => {
            ConfigError::Invalid(vec![format!("{}: {wanted} is wanted here", error.path.join("."))])
        }
        _ => ConfigError::Unreadable(Box::new(error)),
    }
}

/// A duration as the configuration has it, `24h` or `7days`, for a command's argument.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Addresses hold passwords: they too may stand in files.
fn with_files(mut figment: Figment) -> Result<Figment, ConfigError> {
    for path in ["database.url", "broker.url", "broker.management_url"] {
        let Ok(file) = figment.extract_inner::<PathBuf>(&format!("{path}_file")) else { continue };
        if figment.find_value(path).is_ok() {
            let fault = format!("{path}: is given twice; leave out either {path} or {path}_file");
            return Err(ConfigError::Invalid(vec![fault]));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| {
            ConfigError::Invalid(vec![format!("{path}_file: {} cannot be read: {error}", file.display())])
        })?;
        figment = figment.merge((path, text.trim()));
    }
    Ok(figment)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{database::Database, *};

    #[derive(Debug, Deserialize)]
    struct Small {
        database: Database,
    }

    impl Section for Small {
        fn validate(&self, faults: &mut Vec<String>) {
            self.database.validate(faults);
        }
    }

    #[test]
    fn an_address_may_stand_in_a_file_and_not_twice() {
        use secrecy::ExposeSecret;
        let folder = std::env::temp_dir().join(format!("orrery-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (secret, file) = (folder.join("secret"), folder.join("orrery.toml"));
        std::fs::write(&secret, "postgres://somebody:secret@db/orrery\n").unwrap();
        std::fs::write(&file, format!("[database]\nurl_file = {secret:?}\n")).unwrap();
        let config: Small = load(Some(&file)).unwrap();
        assert_eq!(config.database.url.expose_secret(), "postgres://somebody:secret@db/orrery");
        std::fs::write(&file, format!("[database]\nurl_file = {secret:?}\nurl = \"postgres://x\"\n"))
            .unwrap();
        let fault = load::<Small>(Some(&file)).unwrap_err().to_string();
        assert!(fault.contains("database.url: is given twice"), "{fault}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_a_variable_holds_is_taken_without_its_wrapping() {
        for (text, wanted) in [
            ("0123", "0123"),
            (" a b\n", "a b"),
            ("\"0123\"", "0123"),
            ("'x'", "x"),
            ("\"", "\""),
            ("a\"", "a\""),
        ] {
            assert_eq!(plain(text), wanted);
        }
    }

    #[test]
    fn a_fault_names_the_path_of_its_field() {
        let folder = std::env::temp_dir().join(format!("orrery-config-fault-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("orrery.toml");
        for (text, fault) in [
            ("[database]\npool_size = 1", "database.pool_size: must be 2 to 1000"),
            ("[database]\npool_size = \"many\"", "database.pool_size"),
            ("[database]\nulr = 1", "ulr"),
            ("[database]\nurl = \"se\\cret\"", "line 2"),
            ("[database]\nurl = 5391739517395173951739517", "line 2"),
            ("[database]\nurl = 53917395", "database.url"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = load::<Small>(Some(&file)).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
            assert!(!error.contains("cret") && !error.contains("539173"), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(load::<Small>(Some(&file)), Err(ConfigError::Missing(_))));
    }
}
