//! The section `partners`: its listener, the limits of third parties, how their endpoints are delivered to, and which addresses may be theirs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use orrery_config::{
    Section,
    keys::{KeyRing, Keys},
    secret,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// The most deliveries that one endpoint may have at work.
pub const MOST_CONCURRENCY: u16 = 64;

/// Third parties over HTTP.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port; only the gateway should reach it.
    pub listen: SocketAddr,
    /// Threads that serve.
    pub workers: usize,
    /// How the outside reaches us: its host is the origin in the handshake of webhooks.
    pub public_url: Url,
    /// Base64 of 32 random bytes: seals tokens, and the secrets and contacts that lie in the tables. Without it the master key does.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub key: Option<SecretString>,
    /// The file that holds it.
    pub key_file: Option<PathBuf>,
    /// Former keys, which still open.
    #[serde(serialize_with = "secret::hidden_list")]
    pub key_previous: Vec<SecretString>,
    /// How long an access token is valid.
    #[serde(with = "humantime_serde")]
    pub token_lifetime: Duration,
    /// How long a client secret stays valid after it was rotated.
    #[serde(with = "humantime_serde")]
    pub key_overlap: Duration,
    /// How long the secret of an endpoint signs too after it was rotated.
    #[serde(with = "humantime_serde")]
    pub secret_overlap: Duration,
    /// Events that a partner may send a minute to one replica, unless it has a quota of its own; 0 is no limit.
    pub events_per_minute: u32,
    /// Events of one batch.
    pub batch: usize,
    /// Endpoints of a partner, unless it has a quota of its own.
    pub max_endpoints: u32,
    /// Streams that are open at once at one replica.
    pub streams: usize,
    /// How long events can be read, and delivered.
    #[serde(with = "humantime_serde")]
    pub log_lifetime: Duration,
    /// How long dead letters of endpoints are kept.
    #[serde(with = "humantime_serde")]
    pub dead_letter_lifetime: Duration,
    /// How long lines of the audit log are kept.
    #[serde(with = "humantime_serde")]
    pub audit_lifetime: Duration,
    /// Our own events that are written to the log at once.
    pub concurrency: u16,
    /// Our own events that are taken from the queue ahead of their work.
    pub capacity: u16,
    /// Between the first try of one and its only other one.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// How endpoints are delivered to.
    pub delivery: Delivery,
    /// Which addresses an endpoint may have.
    pub targets: Targets,
}

/// How endpoints are delivered to.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// How long one try may take, the answer's body included.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long a connection may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Bytes of an answer's body; a longer one is a failed try.
    pub answer_bytes: usize,
    /// Deliveries at work for one endpoint, unless it asks for fewer or more.
    pub concurrency: u16,
    /// Endpoints that one process delivers to.
    pub endpoints: u32,
    /// Events of one endpoint that may wait for another try; its cursor stands still while there are as many.
    pub window: u32,
    /// The pause after the first failed try; each further one is three times as long, with jitter.
    #[serde(with = "humantime_serde")]
    pub first_delay: Duration,
    /// The longest pause.
    #[serde(with = "humantime_serde")]
    pub longest_delay: Duration,
    /// After this an event that still fails is a dead letter.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    /// After this an endpoint at which everything fails is disabled, and its owner told.
    #[serde(with = "humantime_serde")]
    pub disable_after: Duration,
}

/// Which addresses an endpoint may have: public ones, and these.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    /// Whether `http:` is taken too.
    pub allow_http: bool,
    /// Networks that are not public and may be delivered to.
    pub networks: Vec<IpNet>,
    /// Name servers to ask instead of the system's: address and port.
    pub name_servers: Vec<SocketAddr>,
    /// Authorities beside the system's (PEM).
    pub ca_file: Option<PathBuf>,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Config {
    fn default() -> Self {
        let public_url = Url::parse("http://127.0.0.1:8080");
        Self {
            listen: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 8082),
            workers: 2,
            #[expect(clippy::expect_used, reason = "a constant, which a test reads")]
            public_url: public_url.expect("a URL"),
            key: None,
            key_file: None,
            key_previous: Vec::new(),
            token_lifetime: MINUTE * 15,
            key_overlap: DAY,
            secret_overlap: DAY,
            events_per_minute: 6_000,
            batch: 1_000,
            max_endpoints: 20,
            streams: 256,
            log_lifetime: DAY * 7,
            dead_letter_lifetime: DAY * 30,
            audit_lifetime: DAY * 400,
            concurrency: 16,
            capacity: 48,
            retry_delay: Duration::from_secs(10),
            delivery: Delivery::default(),
            targets: Targets::default(),
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            answer_bytes: 64 * 1024,
            concurrency: 8,
            endpoints: 2_000,
            window: 64,
            first_delay: Duration::from_secs(5),
            longest_delay: HOUR * 12,
            give_up_after: DAY * 3,
            disable_after: DAY * 5,
        }
    }
}

impl Config {
    /// Whether it has a key of its own.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some() || self.key_file.is_some()
    }

    /// The keys that seal: its own, or the installation's master keys.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn keys(&self, shared: &Keys) -> Result<KeyRing, String> {
        if !self.has_key() {
            return shared.master();
        }
        let own = Keys {
            master: self.key.clone(),
            master_file: self.key_file.clone(),
            master_previous: self.key_previous.clone(),
            ..Keys::default()
        };
        own.master().map_err(|error| error.replace("keys.master", "partners.key"))
    }

    /// The name by which we ask receivers: the host of our public URL.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.public_url.host_str().unwrap_or_default()
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        let mut fault = |path: &str, wrong: bool, text: &str| {
            if wrong {
                faults.push(format!("partners.{path}: {text}"));
            }
        };
        let has_host = self.public_url.host_str().is_some();
        let is_http = matches!(self.public_url.scheme(), "http" | "https");
        fault("public_url", !has_host || !is_http, "must be http: or https: with a host");
        for (path, number) in [
            ("workers", self.workers),
            ("batch", self.batch),
            ("streams", self.streams),
            ("concurrency", usize::from(self.concurrency)),
            ("delivery.answer_bytes", self.delivery.answer_bytes),
        ] {
            fault(path, number == 0, "must be above zero");
        }
        fault("delivery.window", self.delivery.window == 0, "must be above zero");
        fault("delivery.endpoints", self.delivery.endpoints == 0, "must be above zero");
        let concurrency = self.delivery.concurrency;
        fault("delivery.concurrency", !(1..=MOST_CONCURRENCY).contains(&concurrency), "must be 1 to 64");
        for (path, time) in [
            ("token_lifetime", self.token_lifetime),
            ("log_lifetime", self.log_lifetime),
            ("dead_letter_lifetime", self.dead_letter_lifetime),
            ("audit_lifetime", self.audit_lifetime),
            ("retry_delay", self.retry_delay),
            ("delivery.timeout", self.delivery.timeout),
            ("delivery.connect_timeout", self.delivery.connect_timeout),
            ("delivery.first_delay", self.delivery.first_delay),
            ("delivery.longest_delay", self.delivery.longest_delay),
            ("delivery.give_up_after", self.delivery.give_up_after),
            ("delivery.disable_after", self.delivery.disable_after),
        ] {
            fault(path, time.is_zero(), "must be above zero, such as 5s");
        }
        fault("token_lifetime", self.token_lifetime > DAY, "must be at most a day");
        if self.has_key() {
            faults.extend(self.keys(&Keys::default()).err());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_fault_names_its_path() {
        let mut faults = Vec::new();
        Config::default().validate(&mut faults);
        assert_eq!(faults, Vec::<String>::new());
        let mut config = Config::default();
        config.delivery.concurrency = 0;
        config.token_lifetime = DAY * 2;
        config.validate(&mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("partners.delivery.concurrency: "), "{faults:?}");
    }
}
