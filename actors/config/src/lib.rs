//! The configuration: one TOML file, overridden by `ORRERY_*` variables (`source`), and the sections that several services share.
//! A service's own section lives in its crate; the binary puts them together.

pub mod address;
pub mod authority;
pub mod broker;
pub mod database;
mod fault;
pub mod keys;
pub mod listen;
pub mod partner;
pub mod redis;
pub mod retention;
pub mod secret;
mod service_links;
pub mod shared;
mod source;
pub mod storage;
mod value;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

pub use source::{PREFIX, Source};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named is not there.
    #[error("the configuration file {} is not there", .0.display())]
    Missing(PathBuf),
    /// It cannot be read, or was read and is wrong; a line for each fault, each with the path of its field.
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
    Source::read(file)?.all()
}

/// A duration as the configuration has it, `24h` or `7days`, for a command's argument.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{database::Database, *};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        database: Database,
    }

    impl Section for Small {
        fn validate(&self, faults: &mut Vec<String>) {
            self.database.validate(faults);
        }
    }

    #[test]
    fn a_fault_names_the_path_of_its_field() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orrery.toml");
        for (text, fault) in [
            ("[database]\npool_size = 1", "database.pool_size: must be 2 to 1000"),
            (
                "[database]\npool_size = \"many\"",
                "database.pool_size: a whole number that is not negative is wanted",
            ),
            ("[database]\nulr = 1", "database.ulr: there is no such setting; those here are url"),
            ("[databse]\nurl = 'x'", "databse: there is no such setting; those here are database"),
            ("[database]\nurl = 53917395", "database.url: a text is wanted here"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = load::<Small>(Some(&file)).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
            assert!(!error.contains("539173"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(load::<Small>(Some(&file)), Err(ConfigError::Missing(_))));
    }
}
