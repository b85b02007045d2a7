//! The section `redis`: what replicas share when it is configured: throttles and limits. Without it PostgreSQL or memory does.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Section, secret};

/// Where Redis is, if it is.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://user:password@host:port/database`, `rediss://` for TLS.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub url: Option<SecretString>,
    /// The file that holds it.
    pub url_file: Option<PathBuf>,
    /// How long an answer may take before Redis counts as away.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: None, url_file: None, timeout: Duration::from_millis(250) }
    }
}

impl Redis {
    /// The address, where one is given.
    ///
    /// # Errors
    /// The line of what is wrong.
    pub fn address(&self) -> Result<Option<SecretString>, String> {
        secret::resolve("redis.url", self.url.as_ref(), self.url_file.as_ref())
    }
}

impl Section for Redis {
    fn validate(&self, faults: &mut Vec<String>) {
        match self.address() {
            Err(fault) => faults.push(fault),
            Ok(Some(url)) => {
                let url = Url::parse(url.expose_secret());
                if !url.is_ok_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host()) {
                    faults.push("redis.url: is no address of Redis; write redis://host:6379".to_owned());
                }
            }
            Ok(None) => {}
        }
        if self.timeout.is_zero() {
            faults.push("redis.timeout: must be above zero, such as 250ms".to_owned());
        }
    }
}
