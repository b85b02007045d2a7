//! The section `storage`: the S3 server and the bucket of the pictures.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Section, authority::Roots, secret};

/// Any S3.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// `https://host:port`.
    pub endpoint: String,
    /// The same as clients of ours reach it, for uploads that go straight to the store; without it there are none.
    pub public_endpoint: Option<String>,
    /// The bucket; made when it is missing.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The access key's id.
    pub access_key: String,
    /// Its secret.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub secret_key: Option<SecretString>,
    /// The file that holds it.
    pub secret_key_file: Option<PathBuf>,
    /// PEM file of the authority that signed the store's certificate; without it those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long one attempt may take before the store counts as away.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Who tells that a picture is in the bucket.
    pub uploaded_events: UploadedEvents,
}

/// The one source of `com.gravitalia.image.uploaded.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadedEvents {
    /// Autha, by its outbox.
    #[default]
    Outbox,
    /// The store, by its own notifications.
    Notifications,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:9000".to_owned(),
            public_endpoint: None,
            bucket: "orrery".to_owned(),
            region: "us-east-1".to_owned(),
            access_key: String::new(),
            secret_key: None,
            secret_key_file: None,
            ca_file: None,
            timeout: Duration::from_secs(10),
            uploaded_events: UploadedEvents::default(),
        }
    }
}

impl Storage {
    /// The bucket whose own notifications tell of uploads, if they do.
    pub fn notifying_bucket(&self) -> Option<&str> {
        (self.uploaded_events == UploadedEvents::Notifications).then_some(self.bucket.as_str())
    }

    /// The secret key.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn secret(&self) -> Result<SecretString, String> {
        secret::resolve("storage.secret_key", self.secret_key.as_ref(), self.secret_key_file.as_ref())?
            .ok_or_else(|| "storage.secret_key: is missing; give the access key's secret".to_owned())
    }
}

impl Section for Storage {
    fn validate(&self, faults: &mut Vec<String>) {
        let is_http = |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http(&self.endpoint) {
            faults.push("storage.endpoint: is no http address; write https://host:port".to_owned());
        }
        if self.public_endpoint.as_ref().is_some_and(|text| !is_http(text)) {
            faults.push("storage.public_endpoint: is no http address; write https://host:port".to_owned());
        }
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(3..=63).contains(&self.bucket.len()) || !self.bucket.chars().all(name) {
            faults.push("storage.bucket: must be 3 to 63 of a-z, 0-9, '-' and '.'".to_owned());
        }
        faults.extend(Roots::of("storage.ca_file", self.ca_file.as_ref()).err());
        if self.timeout.is_zero() {
            faults.push("storage.timeout: must be above zero, such as 10s".to_owned());
        }
    }
}
