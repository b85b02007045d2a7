//! The section `console.alerts`: where alerts go, and what is watched for them.

use std::{path::PathBuf, time::Duration};

use orrery_config::secret;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

const HOUR: u64 = 3600;

/// The settings. Without an address there are no alerts.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A topic of ntfy, such as `https://ntfy.example.org/orrery-4Tz9`. Whoever knows it can read it, so it is a secret.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub ntfy: Option<SecretString>,
    /// The file that holds it.
    pub ntfy_file: Option<PathBuf>,
    /// The topic's access token.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub token: Option<SecretString>,
    /// The file that holds it.
    pub token_file: Option<PathBuf>,
    /// The longest that something has to hold before it is told; an alert's own time where that is shorter.
    #[serde(with = "humantime_serde")]
    pub hold_at_most: Duration,
    /// After this, what still holds is told again.
    #[serde(with = "humantime_serde")]
    pub repeat: Duration,
    /// Folders whose file systems must not fill.
    pub folders: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ntfy: None,
            ntfy_file: None,
            token: None,
            token_file: None,
            hold_at_most: Duration::from_secs(HOUR),
            repeat: Duration::from_secs(24 * HOUR),
            folders: vec![PathBuf::from("/")],
        }
    }
}

impl Config {
    /// The topic, if there is one.
    ///
    /// # Errors
    /// The line of what is wrong.
    pub fn address(&self) -> Result<Option<Url>, String> {
        let given = secret::resolve("console.alerts.ntfy", self.ntfy.as_ref(), self.ntfy_file.as_ref())?;
        let Some(given) = given else { return Ok(None) };
        let place = secret::place("console.alerts.ntfy", self.ntfy_file.as_ref());
        let fault =
            || format!("{place}: must be the address of a topic, such as https://ntfy.example.org/orrery");
        let url = Url::parse(given.expose_secret()).map_err(|_| fault())?;
        let is_topic = matches!(url.scheme(), "http" | "https") && url.path().len() > 1;
        if is_topic { Ok(Some(url)) } else { Err(fault()) }
    }

    /// The token, if there is one.
    ///
    /// # Errors
    /// The line of what is wrong.
    pub fn token(&self) -> Result<Option<SecretString>, String> {
        secret::resolve("console.alerts.token", self.token.as_ref(), self.token_file.as_ref())
    }

    /// Adds what is wrong to the list of faults.
    pub fn validate(&self, faults: &mut Vec<String>) {
        faults.extend(self.address().err());
        faults.extend(self.token().err());
        if self.repeat < Duration::from_secs(60) {
            faults.push("console.alerts.repeat: must be at least 1m, such as 24h".to_owned());
        }
        if let Some(folder) = self.folders.iter().find(|folder| !folder.is_absolute()) {
            faults.push(format!("console.alerts.folders: {} must begin with /", folder.display()));
        }
    }
}
