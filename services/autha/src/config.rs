//! The section `autha`. Keys, database, broker and storage have sections of their own.

use std::{net::SocketAddr, time::Duration};

use orrery_config::{Section, secret};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{account::reserved, throttle::network::Network};

/// Seconds.
const DAY: u64 = 24 * 3600;

/// Loopback and private networks (RFC 1918, 4193, 6598): where the gateway is in every layout.
const GATEWAYS: [&str; 7] =
    ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// The account broker.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; only the gateway should reach it.
    pub listen: SocketAddr,
    /// Networks of the gateways, whose `X-Forwarded-For` is believed. Whoever calls from elsewhere is the caller itself.
    pub gateways: Vec<String>,
    /// HTTP workers.
    pub workers: usize,
    /// The address by which people reach this instance: issuer of tokens and base of every URL in answers.
    pub public_url: Url,
    /// Where pictures are fetched instead, if a CDN copies them from `public_url`: put before `/avatars/...`.
    pub cdn_url: Option<Url>,
    /// The audience of access tokens.
    pub audience: String,
    /// Threads that hash passwords.
    pub hash_workers: usize,
    /// Passwords that may wait for a thread; more are answered 503.
    pub hash_queue: usize,
    /// The least zxcvbn score of a new password, 0 to 4.
    pub password_score: u8,
    /// Who may sign up: `open`, `invite` or `closed`. With `invites` below, `open` means `invite`.
    pub sign_up: SignUp,
    /// Invites that never end; those of `orrery account invite` end once used.
    #[serde(serialize_with = "secret::hidden_list")]
    pub invites: Vec<SecretString>,
    /// Whether addresses are verified by mail: `off`, `ask`, or `require`. With the last a login waits for it, sign-up gives no tokens, and a taken
    /// address is answered like a free one.
    pub verification: Verification,
    /// Whether addresses may have letters outside ASCII before the `@`: only if the mail server knows SMTPUTF8 (RFC 6531).
    pub international_addresses: bool,
    /// Names that nobody can take, nor names that look like them (UTS 39).
    pub reserved_names: Vec<String>,
    /// How long a deleted account can be restored by a login.
    #[serde(with = "humantime_serde")]
    pub deletion_grace: Duration,
    /// How long a link that verifies an address, or confirms a new one, can be used.
    #[serde(with = "humantime_serde")]
    pub verify_lifetime: Duration,
    /// How long a link that sets a new password can be used.
    #[serde(with = "humantime_serde")]
    pub recover_lifetime: Duration,
    /// How long an invite can be used.
    #[serde(with = "humantime_serde")]
    pub invite_lifetime: Duration,
    /// How long a finished export can be fetched.
    #[serde(with = "humantime_serde")]
    pub export_lifetime: Duration,
    /// How long lines of the audit log are kept.
    #[serde(with = "humantime_serde")]
    pub audit_lifetime: Duration,
    /// How long a signing key signs.
    #[serde(with = "humantime_serde")]
    pub signing_key_lifetime: Duration,
    /// How often credentials may be tried.
    pub throttle: Throttle,
    /// What `/status.json` tells.
    pub instance: Instance,
    /// Changes of accounts at work at once, each with a connection to the database.
    pub accounts_concurrency: usize,
    /// Changes of accounts that may wait; more are answered 503.
    pub accounts_capacity: usize,
    /// Pictures being uploaded at once.
    pub uploads: usize,
    /// Uploads that may wait for others; more are answered 503.
    pub uploads_capacity: usize,
    /// Results of pictures at work at once.
    pub pictures_concurrency: usize,
    /// Results of pictures that are taken from the queue ahead of their work.
    pub pictures_capacity: usize,
    /// How long an address that takes a picture straight into the bucket can be used.
    #[serde(with = "humantime_serde")]
    pub upload_lifetime: Duration,
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

/// Who may sign up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignUp {
    /// Everybody.
    #[default]
    Open,
    /// Who has an invite.
    Invite,
    /// Nobody; an operator makes accounts.
    Closed,
}

/// Whether addresses are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verification {
    /// Nobody is asked.
    #[default]
    Off,
    /// Sign-up asks by mail, and nothing waits for it.
    Ask,
    /// A login waits for it.
    Require,
}

/// Budgets of whoever tries credentials, shared by all replicas.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Wrong passwords of one account from one network before its next try has to wait: 1 s, doubling.
    pub account_failures: u32,
    /// The same, from all networks together.
    pub account_failures_total: u32,
    /// Wrong credentials from one address (an IPv6 /64) within the window.
    pub address_failures: u32,
    /// Wrong credentials from one network (an IPv4 /24, an IPv6 /48) within the window.
    pub network_failures: u32,
    /// Sign-ups, and mails that are asked for, from one address within the window.
    pub address_requests: u32,
    /// Mails that one mailbox gets on request within the window.
    pub mailbox_mails: u32,
    /// The window.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The longest that a growing delay gets.
    #[serde(with = "humantime_serde")]
    pub longest_delay: Duration,
    /// Networks whose addresses have no budget, such as a load test's; accounts keep theirs.
    pub trusted_networks: Vec<String>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            account_failures: 5,
            account_failures_total: 50,
            address_failures: 50,
            network_failures: 200,
            address_requests: 60,
            mailbox_mails: 5,
            window: Duration::from_secs(15 * 60),
            longest_delay: Duration::from_secs(15 * 60),
            trusted_networks: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
        }
    }
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
            gateways: GATEWAYS.iter().map(|&network| network.to_owned()).collect(),
            workers: 2,
            public_url: Url::parse("http://127.0.0.1:8080").unwrap(),
            cdn_url: None,
            audience: "orrery".to_owned(),
            hash_workers: 2,
            hash_queue: 64,
            password_score: 3,
            sign_up: SignUp::Open,
            invites: Vec::new(),
            verification: Verification::Off,
            international_addresses: false,
            reserved_names: reserved::DEFAULT.iter().map(|&name| name.to_owned()).collect(),
            deletion_grace: Duration::from_secs(30 * DAY),
            verify_lifetime: Duration::from_secs(3 * DAY),
            recover_lifetime: Duration::from_secs(3600),
            invite_lifetime: Duration::from_secs(14 * DAY),
            export_lifetime: Duration::from_secs(7 * DAY),
            audit_lifetime: Duration::from_secs(400 * DAY),
            signing_key_lifetime: Duration::from_secs(30 * DAY),
            throttle: Throttle::default(),
            instance: Instance { name: "Orrery".to_owned(), ..Instance::default() },
            accounts_concurrency: 32,
            accounts_capacity: 256,
            uploads: 32,
            uploads_capacity: 0,
            pictures_concurrency: 8,
            pictures_capacity: 0,
            upload_lifetime: Duration::from_secs(15 * 60),
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

    /// Who may sign up; a list of invites makes an open instance one for the invited.
    pub fn sign_up(&self) -> SignUp {
        match self.sign_up {
            SignUp::Open if !self.invites.is_empty() => SignUp::Invite,
            other => other,
        }
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if !matches!(self.public_url.scheme(), "http" | "https") || self.public_url.query().is_some() {
            faults.push("autha.public_url: must be an http or https address without a query".to_owned());
        }
        let is_base = |url: &Url| matches!(url.scheme(), "http" | "https") && url.query().is_none();
        if self.cdn_url.as_ref().is_some_and(|url| !is_base(url) || url.fragment().is_some()) {
            faults.push("autha.cdn_url: must be an http or https address without a query".to_owned());
        }
        if self.audience.is_empty() {
            faults.push("autha.audience: is empty; name who the tokens are for".to_owned());
        }
        if self.password_score > 4 {
            faults.push("autha.password_score: must be 0 to 4".to_owned());
        }
        if self.signing_key_lifetime < Duration::from_secs(DAY) {
            faults.push(
                "autha.signing_key_lifetime: must be at least 1day; clients keep the keys for an hour"
                    .to_owned(),
            );
        }
        for (name, value) in [
            ("workers", self.workers),
            ("hash_workers", self.hash_workers),
            ("hash_queue", self.hash_queue),
            ("accounts_concurrency", self.accounts_concurrency),
            ("uploads", self.uploads),
            ("pictures_concurrency", self.pictures_concurrency),
        ] {
            if !(1..=4096).contains(&value) {
                faults.push(format!("autha.{name}: must be 1 to 4096"));
            }
        }
        for (name, networks) in
            [("gateways", &self.gateways), ("throttle.trusted_networks", &self.throttle.trusted_networks)]
        {
            for (n, network) in networks.iter().enumerate() {
                if network.parse::<Network>().is_err() {
                    faults.push(format!("autha.{name}[{n}]: must be a network, such as 10.0.0.0/8"));
                }
            }
        }
        for (n, name) in self.reserved_names.iter().enumerate() {
            if name.is_empty() || !name.is_ascii() {
                faults.push(format!("autha.reserved_names[{n}]: must be a name of ASCII characters"));
            }
        }
        for (name, value) in [
            ("accounts_capacity", self.accounts_capacity),
            ("uploads_capacity", self.uploads_capacity),
            ("pictures_capacity", self.pictures_capacity),
        ] {
            if value > 4096 {
                faults.push(format!("autha.{name}: must be 0 to 4096"));
            }
        }
        // No S3 takes an older signature.
        if self.upload_lifetime > Duration::from_secs(7 * DAY) {
            faults.push("autha.upload_lifetime: must be at most 7days".to_owned());
        }
        for (name, value) in [
            ("verify_lifetime", self.verify_lifetime),
            ("recover_lifetime", self.recover_lifetime),
            ("invite_lifetime", self.invite_lifetime),
            ("export_lifetime", self.export_lifetime),
            ("audit_lifetime", self.audit_lifetime),
            ("throttle.window", self.throttle.window),
            ("throttle.longest_delay", self.throttle.longest_delay),
            ("upload_lifetime", self.upload_lifetime),
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
