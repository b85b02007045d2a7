//! A secret that stands in the configuration, in a variable, or in a file that either names. It never prints itself.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// What stands in a secret's place where the configuration is shown.
pub const HIDDEN: &str = "[hidden]";

/// Chooses between a value and a file's content, trimmed.
///
/// # Errors
/// A line for the faults' list: both are given, or the file cannot be read.
pub fn resolve(
    path: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<SecretString>, String> {
    match (value, file) {
        (Some(_), Some(_)) => Err(format!("{path}: is given twice; leave out either {path} or {path}_file")),
        (Some(value), None) => Ok(Some(value.expose_secret().trim().into())),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map(|text| Some(text.trim().into()))
            .map_err(|error| format!("{path}_file: {} cannot be read: {error}", file.display())),
        (None, None) => Ok(None),
    }
}

/// Serialises a secret as hidden.
///
/// # Errors
/// As the serialiser.
pub fn hidden<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(HIDDEN)
}

/// The same of one that may be missing.
///
/// # Errors
/// As the serialiser.
pub fn hidden_if_any<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => hidden(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// The same of several.
///
/// # Errors
/// As the serialiser.
pub fn hidden_list<S: Serializer>(secrets: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|_| HIDDEN))
}
