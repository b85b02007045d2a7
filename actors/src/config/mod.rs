//! Loading of the configuration: one TOML file, overridden by `ORRERY_*` variables, and the sections that several services share.
//! A service's own section lives in its crate; the binary puts them together.

pub mod broker;
pub mod database;
pub mod keys;
pub mod listen;
pub mod secret;
pub mod storage;

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::de::DeserializeOwned;

/// The prefix of the variables; sections and fields are separated by two underscores (`ORRERY_DATABASE__URL`).
pub const PREFIX: &str = "ORRERY_";

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
        figment = figment.merge(Toml::file_exact(file));
    }
    let figment = figment.merge(Env::prefixed(PREFIX).ignore(&["config", "bin", "profile"]).split("__"));
    let config: T = figment.extract().map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
    let mut faults = Vec::new();
    config.validate(&mut faults);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(faults)) }
}
