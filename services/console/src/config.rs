//! The section `console`: where it listens, who signs log-ins, what it looks at.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use orrery_config::{
    Section,
    keys::{self, KeyRing, Keys},
    secret,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::alerts;

const DAY: u64 = 24 * 3600;

/// The settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The console's own listener; never reached through the gateway.
    pub listen: SocketAddr,
    /// How operators reach it, where a proxy stands before it; without it `http://<listen>`.
    pub url: Option<Url>,
    /// Signs log-ins: base64 of 32 random bytes. Without it a key is derived from `keys.master`.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub key: Option<SecretString>,
    /// The file that holds it.
    pub key_file: Option<PathBuf>,
    /// How long a link of `orrery console token` can be used.
    #[serde(with = "humantime_serde")]
    pub link_lifetime: Duration,
    /// How long a log-in lasts.
    #[serde(with = "humantime_serde")]
    pub session_lifetime: Duration,
    /// How long autha's word that the account of a log-in is an operator's is believed.
    #[serde(with = "humantime_serde")]
    pub recheck_every: Duration,
    /// How often broker and database are looked at, for all who watch together.
    #[serde(with = "humantime_serde")]
    pub poll_every: Duration,
    /// How many may watch at once; more are answered 503.
    pub viewers: usize,
    /// How long lines of the audit log are kept.
    #[serde(with = "humantime_serde")]
    pub audit_lifetime: Duration,
    /// How long a redrive or a drop of several letters waits before it begins, so that it can be undone.
    #[serde(with = "humantime_serde")]
    pub undo: Duration,
    /// Autha, for accounts.
    pub autha: Url,
    /// Where the log lines of a trace are shown, with `{trace}` in the trace's place.
    pub trace_url: Option<String>,
    /// The internal listeners of other processes, such as `http://10.0.0.7:8090`; a name may stand for several.
    pub processes: Vec<Url>,
    /// Where alerts go, without Prometheus.
    pub alerts: alerts::config::Config,
}

impl Default for Config {
    #[expect(clippy::unwrap_used, reason = "a constant address")]
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8084)),
            url: None,
            key: None,
            key_file: None,
            link_lifetime: Duration::from_secs(10 * 60),
            session_lifetime: Duration::from_secs(12 * 3600),
            recheck_every: Duration::from_secs(5 * 60),
            poll_every: Duration::from_secs(5),
            viewers: 64,
            audit_lifetime: Duration::from_secs(400 * DAY),
            undo: Duration::from_secs(10),
            autha: Url::parse("http://127.0.0.1:8081").unwrap(),
            trace_url: None,
            processes: Vec::new(),
            alerts: alerts::config::Config::default(),
        }
    }
}

impl Config {
    /// What operators type, without a slash at its end.
    pub fn base(&self) -> String {
        self.url.as_ref().map_or_else(
            || format!("http://{}", self.listen),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        )
    }

    /// Whether operators reach it by https.
    pub fn is_https(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// The key that signs log-ins.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn ring(&self, keys: &Keys) -> Result<KeyRing, String> {
        if self.key.is_some() || self.key_file.is_some() {
            return keys::ring("console.key", self.key.as_ref(), self.key_file.as_ref(), &[]);
        }
        let hint =
            |fault: String| format!("{fault}; or give console.key, which the console needs and nobody else");
        keys.master().map_err(hint)
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.key.is_some() || self.key_file.is_some() {
            faults.extend(keys::ring("console.key", self.key.as_ref(), self.key_file.as_ref(), &[]).err());
        }
        let urls = self.url.iter().map(|url| ("url".to_owned(), url));
        let urls = urls.chain([("autha".to_owned(), &self.autha)]);
        let processes = self.processes.iter().enumerate();
        for (name, url) in urls.chain(processes.map(|(n, url)| (format!("processes[{n}]"), url))) {
            if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
                faults.push(format!("console.{name}: must be an http or https address without a query"));
            }
        }
        if let Some(url) = &self.trace_url
            && !(url.contains("{trace}") && (url.starts_with("https://") || url.starts_with("http://")))
        {
            faults.push("console.trace_url: must be an http or https address with {trace} in it".to_owned());
        }
        for (name, value) in [
            ("link_lifetime", self.link_lifetime),
            ("session_lifetime", self.session_lifetime),
            ("recheck_every", self.recheck_every),
            ("audit_lifetime", self.audit_lifetime),
        ] {
            if value.is_zero() {
                faults.push(format!("console.{name}: must be above zero, such as 12h"));
            }
        }
        if self.poll_every < Duration::from_secs(1) {
            faults.push("console.poll_every: must be at least 1s, such as 5s".to_owned());
        }
        self.alerts.validate(faults);
        if !(1..=4096).contains(&self.viewers) {
            faults.push("console.viewers: must be 1 to 4096".to_owned());
        }
    }
}
