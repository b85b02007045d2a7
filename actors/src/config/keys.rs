//! The section `keys`: the master key and the key that autha and maily share. What is derived from them lives in `seal`.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Section, secret};

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
    }
}

fn ring(
    path: &str,
    value: Option<&SecretString>,
    file: Option<&PathBuf>,
    previous: &[SecretString],
) -> Result<KeyRing, String> {
    let hint = "give the base64 of 32 random bytes (openssl rand -base64 32)";
    let current = secret::resolve(path, value, file)?.ok_or_else(|| format!("{path}: is missing; {hint}"))?;
    std::iter::once((path.to_owned(), &current))
        .chain(previous.iter().enumerate().map(|(n, key)| (format!("{path}_previous[{n}]"), key)))
        .map(|(path, key)| {
            let bytes = Zeroizing::new(STANDARD.decode(key.expose_secret()).unwrap_or_default());
            <[u8; 32]>::try_from(bytes.as_slice())
                .map(Zeroizing::new)
                .map_err(|_| format!("{path}: is no base64 of 32 bytes; {hint}"))
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
}
