//! The section `keys`: the master key, the key that autha and maily share, and that of discovery. What is derived from them lives in `seal`.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Section, secret};

const HINT: &str = "give the base64 of 32 random bytes (openssl rand -base64 32)";

/// Keys of 32 bytes, the current one first, the ones before it after it.
#[derive(Clone)]
pub struct KeyRing(Vec<Zeroizing<[u8; 32]>>);

impl KeyRing {
    /// The keys, current first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| key.as_slice())
    }

    /// A ring of given keys.
    pub fn from_bytes(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self(keys.into_iter().map(Zeroizing::new).collect())
    }
}

/// Base64 of 32 bytes each (`openssl rand -base64 32`).
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Seals what lies in autha's tables.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub master: Option<SecretString>,
    /// The file that holds it.
    pub master_file: Option<PathBuf>,
    /// Former master keys, which still open.
    #[serde(serialize_with = "secret::hidden_list")]
    pub master_previous: Vec<SecretString>,
    /// Seals addresses on their way from autha to maily.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub mail: Option<SecretString>,
    /// The file that holds it.
    pub mail_file: Option<PathBuf>,
    /// Former mail keys, which still open.
    #[serde(serialize_with = "secret::hidden_list")]
    pub mail_previous: Vec<SecretString>,
    /// Seals what lies in discovery's tables.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub discovery: Option<SecretString>,
    /// The file that holds it.
    pub discovery_file: Option<PathBuf>,
    /// Former keys of discovery, which still open.
    #[serde(serialize_with = "secret::hidden_list")]
    pub discovery_previous: Vec<SecretString>,
}

impl Keys {
    /// The ring of master keys; only autha asks for it.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn master(&self) -> Result<KeyRing, String> {
        ring("keys.master", self.master.as_ref(), self.master_file.as_ref(), &self.master_previous)
    }

    /// The ring of mail keys; autha and maily ask for it.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn mail(&self) -> Result<KeyRing, String> {
        ring("keys.mail", self.mail.as_ref(), self.mail_file.as_ref(), &self.mail_previous)
    }

    /// The ring of discovery's keys; only discovery asks for it.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn discovery(&self) -> Result<KeyRing, String> {
        let (value, file) = (self.discovery.as_ref(), self.discovery_file.as_ref());
        ring("keys.discovery", value, file, &self.discovery_previous)
    }
}

impl Section for Keys {
    fn validate(&self, faults: &mut Vec<String>) {
        // Which keys are needed depends on the services; what is given must be right.
        if self.master.is_some() || self.master_file.is_some() {
            faults.extend(self.master().err());
        }
        if self.mail.is_some() || self.mail_file.is_some() {
            faults.extend(self.mail().err());
        }
        if self.discovery.is_some() || self.discovery_file.is_some() {
            faults.extend(self.discovery().err());
        }
        // Whoever reads mails, or talks with peers, would hold the key of everything else.
        let rings = [
            ("keys.master", self.master()),
            ("keys.mail", self.mail()),
            ("keys.discovery", self.discovery()),
        ];
        for (at, (name, ring)) in rings.iter().enumerate() {
            for (before, other) in rings.iter().take(at) {
                if let (Ok(ring), Ok(other)) = (ring, other)
                    && ring.keys().any(|key| other.keys().any(|same| same == key))
                {
                    faults.push(format!("{name}: is a key of {before} too; {HINT}"));
                }
            }
        }
    }
}

/// A ring of one key that stands elsewhere in the configuration, at `path`; none when it is not given.
///
/// # Errors
/// The line of what is wrong.
pub fn other(
    path: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<KeyRing>, String> {
    let given = value.is_some() || file.is_some();
    given.then(|| ring(path, value, file, &[])).transpose()
}

/// The ring of the key that is the setting `path`, given as itself or in a file, with those before it.
///
/// # Errors
/// The line of what is missing or wrong.
pub fn ring(
    path: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
    previous: &[SecretString],
) -> Result<KeyRing, String> {
    let current = secret::resolve(path, value, file)?.ok_or_else(|| format!("{path}: is missing; {HINT}"))?;
    std::iter::once((secret::place(path, file), &current))
        .chain(previous.iter().enumerate().map(|(n, key)| (format!("{path}_previous[{n}]"), key)))
        .map(|(place, key)| {
            let bytes = Zeroizing::new(STANDARD.decode(key.expose_secret().trim()).unwrap_or_default());
            <[u8; 32]>::try_from(bytes.as_slice())
                .map(Zeroizing::new)
                .map_err(|_| format!("{place}: is no base64 of 32 bytes; {HINT}"))
        })
        .collect::<Result<_, _>>()
        .map(KeyRing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_named_by_its_path_and_never_shown() {
        let keys = Keys { master: Some("c2VjcmV0".into()), ..Keys::default() };
        let mut faults = Vec::new();
        keys.validate(&mut faults);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("keys.master: is no base64 of 32 bytes"), "{faults:?}");
        assert!(!format!("{keys:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_missing_key_is_told_to_who_asks() {
        assert!(Keys::default().mail().is_err_and(|fault| fault.starts_with("keys.mail: is missing")));
    }

    #[test]
    fn a_fault_of_a_file_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master");
        std::fs::write(&file, "c2VjcmV0").unwrap();
        let keys = Keys { master_file: Some(file.clone()), ..Keys::default() };
        let fault = keys.master().err().unwrap();
        assert!(fault.starts_with(&format!("keys.master_file: {}: is no base64", file.display())), "{fault}");
        std::fs::write(&file, "\u{feff}MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\n").unwrap();
        assert!(keys.master().is_ok());
    }

    #[test]
    fn one_key_is_not_both() {
        let (one, other) =
            ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        let faults = |mail: &str, previous: &[&str]| {
            let mut faults = Vec::new();
            let master_previous = previous.iter().map(|key| (*key).into()).collect();
            let keys = Keys {
                master: Some(one.into()),
                mail: Some(mail.into()),
                master_previous,
                ..Keys::default()
            };
            keys.validate(&mut faults);
            faults.concat()
        };
        assert_eq!(faults(other, &[]), "");
        assert!(faults(one, &[]).starts_with("keys.mail: is a key of keys.master too"));
        assert!(faults(other, &[other]).starts_with("keys.mail: is a key of keys.master too"));
    }
}
