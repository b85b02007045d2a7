//! Whose certificates count: what `sslrootcert` of `database.url`, `broker.ca_file`, `storage.ca_file` and `maily.smtp.ca_file` name.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject};

/// Whose certificates count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The authorities that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    System,
    /// Those in the file that the setting names.
    Named(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// What a setting says; without a file the system decides.
    ///
    /// # Errors
    /// A line for the faults' list.
    pub fn of(path: &str, file: Option<&PathBuf>) -> Result<Self, String> {
        let Some(file) = file else { return Ok(Self::System) };
        certificates(file).map(Self::Named).map_err(|fault| format!("{path}: {} {fault}", file.display()))
    }
}

/// The certificates of a file.
///
/// # Errors
/// What is wrong, to be written after the file's name.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| format!("cannot be read: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate; it has to be PEM (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}
