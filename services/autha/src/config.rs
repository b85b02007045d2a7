//! The section `autha`. Keys, database, broker and storage have sections of their own.

use std::{net::SocketAddr, time::Duration};

use orrery_actors::config::{Section, secret};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

/// The account broker.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; only the gateway should reach it.
    pub listen: SocketAddr,
    /// HTTP workers.
    pub workers: usize,
    /// The address by which people reach this instance: issuer of tokens and base of every URL in answers.
    pub public_url: Url,
    /// The audience of access tokens.
    pub audience: String,
    /// Threads that hash passwords.
    pub hash_workers: usize,
    /// Passwords that may wait for a thread; more are answered 503.
    pub hash_queue: usize,
    /// The least zxcvbn score of a new password, 0 to 4.
    pub password_score: u8,
    /// Sign-up needs one of these; none means that it is open to everybody.
    #[serde(serialize_with = "secret::hidden_list")]
    pub invites: Vec<SecretString>,
    /// What `/status.json` tells.
    pub instance: Instance,
    /// Pictures being uploaded at once; more are answered 503.
    pub uploads: usize,
    /// The longest pause in a body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a failed result of a picture waits before its second try.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// An object that no row names is removed when it is this old.
    #[serde(with = "humantime_serde")]
    pub sweep_after: Duration,
    /// How often the bucket is swept.
    #[serde(with = "humantime_serde")]
    pub sweep_every: Duration,
}

/// What an instance says of itself.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where help is found.
    pub support: String,
    /// A small picture.
    pub favicon: String,
    /// A large picture.
    pub background: String,
    /// The terms.
    pub terms_of_service: String,
    /// What is done with data.
    pub privacy_policy: String,
}

impl Default for Config {
    #[expect(clippy::unwrap_used, reason = "a constant address")]
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            workers: 2,
            public_url: Url::parse("http://127.0.0.1:8080").unwrap(),
            audience: "orrery".to_owned(),
            hash_workers: 2,
            hash_queue: 64,
            password_score: 3,
            invites: Vec::new(),
            instance: Instance { name: "Orrery".to_owned(), ..Instance::default() },
            uploads: 32,
            body_timeout: Duration::from_secs(15),
            retry_delay: Duration::from_secs(10),
            sweep_after: Duration::from_secs(24 * 3600),
            sweep_every: Duration::from_secs(3600),
        }
    }
}

impl Config {
    /// The public address without a slash at its end.
    pub fn base(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if !matches!(self.public_url.scheme(), "http" | "https") || self.public_url.query().is_some() {
            faults.push("autha.public_url: must be an http or https address without a query".to_owned());
        }
        if self.audience.is_empty() {
            faults.push("autha.audience: is empty; name who the tokens are for".to_owned());
        }
        if self.password_score > 4 {
            faults.push("autha.password_score: must be 0 to 4".to_owned());
        }
        for (name, value) in [
            ("workers", self.workers),
            ("hash_workers", self.hash_workers),
            ("hash_queue", self.hash_queue),
            ("uploads", self.uploads),
        ] {
            if !(1..=4096).contains(&value) {
                faults.push(format!("autha.{name}: must be 1 to 4096"));
            }
        }
        for (name, value) in [
            ("body_timeout", self.body_timeout),
            ("retry_delay", self.retry_delay),
            ("sweep_every", self.sweep_every),
        ] {
            if value.is_zero() {
                faults.push(format!("autha.{name}: must be above zero, such as 15s"));
            }
        }
    }
}
