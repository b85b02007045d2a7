//! The section `backup`: where backups lie, the key that seals them, how many are kept.

use std::path::PathBuf;

use orrery_config::{
    Section,
    keys::{self, KeyRing},
    secret,
    storage::Storage,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Where to, how many, under which key.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// The folder that they lie in.
    pub folder: Option<PathBuf>,
    /// In its place a bucket, best of another provider; its keys are those of `storage`.
    pub storage: Option<Storage>,
    /// Base64 of 32 random bytes. It is in no backup: keep it where the machine's loss does not take it.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub key: Option<SecretString>,
    /// The file that holds it.
    pub key_file: Option<PathBuf>,
    /// How many are kept; older ones are removed after a new one is whole.
    pub keep: usize,
    /// Whether the bucket's objects are in them. A bucket that keeps versions elsewhere needs no copy.
    pub objects: bool,
}

impl Default for Backup {
    fn default() -> Self {
        Self { folder: None, storage: None, key: None, key_file: None, keep: 14, objects: true }
    }
}

impl Backup {
    /// The key, as a ring.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn ring(&self) -> Result<KeyRing, String> {
        keys::other("backup.key", self.key.as_ref(), self.key_file.as_ref())?.ok_or_else(|| {
            "backup.key: is missing; give the base64 of 32 random bytes (openssl rand -base64 32)".to_owned()
        })
    }

    /// Whether anything is said of backups.
    fn is_given(&self) -> bool {
        self.folder.is_some() || self.storage.is_some()
    }
}

impl Section for Backup {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.key.is_some() || self.key_file.is_some() {
            faults.extend(self.ring().err());
        }
        if self.folder.is_some() && self.storage.is_some() {
            faults.push("backup.folder: give either a folder or backup.storage".to_owned());
        }
        if self.is_given() && self.keep == 0 {
            faults.push("backup.keep: must be above zero".to_owned());
        }
        if let Some(storage) = &self.storage {
            let mut own = Vec::new();
            storage.validate(&mut own);
            faults.extend(own.into_iter().map(|fault| format!("backup.{fault}")));
        }
    }
}
