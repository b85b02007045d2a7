//! A secret that stands in the configuration, in a variable, or in a file that either names. It never prints itself.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

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
