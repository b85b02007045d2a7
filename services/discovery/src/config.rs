//! The section `discovery`. Database, broker and keys have sections of their own.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use orrery_config::{Section, secret};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::presence::Visibility;

/// The client of Turms sends its heartbeat every 45 s.
const SHORTEST_IDLE: Duration = Duration::from_secs(60);

/// Peers that find each other.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; only the gateway should reach it.
    pub listen: SocketAddr,
    /// HTTP workers.
    pub workers: usize,
    /// Where autha publishes the keys that access tokens are verified by.
    pub jwks_url: Url,
    /// The issuer of access tokens; empty: whoever signs with these keys.
    pub issuer: String,
    /// Their audience; empty: any.
    pub audience: String,
    /// How long the keys are used before they are asked for again.
    #[serde(with = "humantime_serde")]
    pub keys_fresh: Duration,
    /// How long they are believed while autha cannot be reached.
    #[serde(with = "humantime_serde")]
    pub keys_stale: Duration,
    /// The server after the `@` of a recipient; empty: the issuer's host, or any where there is none.
    pub domain: String,
    /// Who sees a peer that has not chosen: `public`, `contacts` or `hidden`.
    pub default_visibility: Visibility,
    /// Up to so many peers online, everybody is told of every public peer; above it only of their contacts.
    pub lobby: usize,
    /// Sockets of one process.
    pub sockets: usize,
    /// Sockets of one account in one process.
    pub sockets_per_account: usize,
    /// The largest frame; a larger one closes its socket with 1009.
    pub frame_limit: ByteSize,
    /// Frames that a socket may send a second, on average.
    pub frames_per_second: u32,
    /// Frames that it may send at once.
    pub frame_burst: u32,
    /// Offers that a socket may make a minute.
    pub offers_per_minute: u32,
    /// Frames that wait to be handled, of one socket.
    pub frames_capacity: usize,
    /// What may wait to be read by a client; a slower one is closed.
    pub buffer: ByteSize,
    /// A socket from which nothing came for so long is closed.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How often a socket is pinged.
    #[serde(with = "humantime_serde")]
    pub ping_every: Duration,
    /// How long a client may take to say that it has received its messages, and a connection to take what is written.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long an offer lives.
    #[serde(with = "humantime_serde")]
    pub offer_lifetime: Duration,
    /// How long a message waits for its recipient.
    #[serde(with = "humantime_serde")]
    pub message_lifetime: Duration,
    /// The longest content of a message.
    pub message_limit: ByteSize,
    /// Messages that may wait for one recipient.
    pub messages_per_recipient: u32,
    /// Messages of one sender that may wait.
    pub messages_per_sender: u32,
    /// Contacts that a peer may have, and peers that it may block.
    pub contacts: u32,
    /// A replica that was not heard of for so long is gone, and its peers with it.
    #[serde(with = "humantime_serde")]
    pub replica_timeout: Duration,
    /// How long a failed try of an event waits before the second.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// The TURN server, if there is one.
    pub turn: Turn,
}

/// A TURN server that takes time-limited credentials (coturn's `use-auth-secret`).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Turn {
    /// Its addresses, as WebRTC takes them: `turn:turn.example.org:3478?transport=udp`. Empty: there is none.
    pub urls: Vec<String>,
    /// What it shares with us: coturn's `static-auth-secret`.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub secret: Option<SecretString>,
    /// The file that holds it.
    pub secret_file: Option<PathBuf>,
    /// How long credentials can be used.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
}

impl Default for Turn {
    fn default() -> Self {
        Self { urls: Vec::new(), secret: None, secret_file: None, lifetime: Duration::from_secs(3600) }
    }
}

impl Turn {
    /// What it shares with us; none where no server is named.
    ///
    /// # Errors
    /// The line of what is missing or wrong.
    pub fn secret(&self) -> Result<Option<SecretString>, String> {
        if self.urls.is_empty() {
            return Ok(None);
        }
        let secret =
            secret::resolve("discovery.turn.secret", self.secret.as_ref(), self.secret_file.as_ref())?;
        secret.map(Some).ok_or_else(|| {
            "discovery.turn.secret: is missing; give coturn's static-auth-secret, or leave discovery.turn.urls empty"
                .to_owned()
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8083)),
            workers: 2,
            jwks_url: jwks(),
            issuer: String::new(),
            audience: String::new(),
            keys_fresh: Duration::from_secs(300),
            keys_stale: 24 * HOUR,
            domain: String::new(),
            default_visibility: Visibility::Public,
            lobby: 200,
            sockets: 20_000,
            sockets_per_account: 8,
            frame_limit: ByteSize::kib(64),
            frames_per_second: 20,
            frame_burst: 100,
            offers_per_minute: 30,
            frames_capacity: 4,
            buffer: ByteSize::kib(512),
            idle_timeout: Duration::from_secs(90),
            ping_every: Duration::from_secs(30),
            write_timeout: Duration::from_secs(15),
            offer_lifetime: HOUR,
            message_lifetime: 30 * 24 * HOUR,
            message_limit: ByteSize::kib(16),
            messages_per_recipient: 1000,
            messages_per_sender: 500,
            contacts: 500,
            replica_timeout: Duration::from_secs(30),
            retry_delay: Duration::from_secs(10),
            turn: Turn::default(),
        }
    }
}

/// Autha on the same machine.
#[expect(clippy::expect_used, reason = "a constant that a test reads")]
fn jwks() -> Url {
    Url::parse("http://127.0.0.1:8081/.well-known/jwks.json").expect("an address")
}

impl Config {
    /// The server after the `@` of our own peers; empty for any.
    pub fn domain(&self) -> String {
        if !self.domain.is_empty() {
            return self.domain.clone();
        }
        let issuer = Url::parse(&self.issuer).ok();
        issuer.and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default()
    }
}

/// A setting's name, its value, and its limits.
type Bounded = (&'static str, u64, u64, u64);

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let counts: [Bounded; 11] = [
            ("workers", wide(self.workers), 1, 64),
            ("sockets", wide(self.sockets), 1, 1_000_000),
            ("sockets_per_account", wide(self.sockets_per_account), 1, 1000),
            ("frames_per_second", self.frames_per_second.into(), 1, 100_000),
            ("frame_burst", self.frame_burst.into(), 1, 100_000),
            ("offers_per_minute", self.offers_per_minute.into(), 1, 100_000),
            ("frames_capacity", wide(self.frames_capacity), 0, 1024),
            ("messages_per_recipient", self.messages_per_recipient.into(), 1, 1_000_000),
            ("messages_per_sender", self.messages_per_sender.into(), 1, 1_000_000),
            ("contacts", self.contacts.into(), 1, 2000),
            ("lobby", wide(self.lobby), 0, 10_000),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                faults.push(format!("discovery.{name}: must be {least} to {most}"));
            }
        }
        let sizes = [
            ("frame_limit", self.frame_limit, ByteSize::kib(1), ByteSize::mib(1)),
            ("message_limit", self.message_limit, ByteSize::b(1), self.frame_limit),
            ("buffer", self.buffer, self.frame_limit, ByteSize::mib(64)),
        ];
        for (name, value, least, most) in sizes {
            if value < least || value > most {
                faults.push(format!("discovery.{name}: must be {least} to {most}"));
            }
        }
        if self.idle_timeout <= SHORTEST_IDLE {
            faults.push(
                "discovery.idle_timeout: must be above 60s: clients send a heartbeat every 45 s".to_owned(),
            );
        }
        let times = [
            ("keys_fresh", self.keys_fresh),
            ("ping_every", self.ping_every),
            ("write_timeout", self.write_timeout),
            ("offer_lifetime", self.offer_lifetime),
            ("message_lifetime", self.message_lifetime),
            ("retry_delay", self.retry_delay),
            ("turn.lifetime", self.turn.lifetime),
        ];
        for (name, value) in times {
            if value.is_zero() {
                faults.push(format!("discovery.{name}: must be above zero, such as 10s"));
            }
        }
        if self.keys_stale < self.keys_fresh {
            faults.push("discovery.keys_stale: must be at least discovery.keys_fresh".to_owned());
        }
        if !(Duration::from_secs(3)..=Duration::from_secs(60)).contains(&self.replica_timeout) {
            faults.push("discovery.replica_timeout: must be 3s to 60s".to_owned());
        }
        faults.extend(self.turn.secret().err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let mut faults = Vec::new();
        Config::default().validate(&mut faults);
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn a_turn_server_without_its_secret_is_a_fault() {
        let turn = Turn { urls: vec!["turn:turn.example:3478".to_owned()], ..Turn::default() };
        let mut faults = Vec::new();
        Config { turn, ..Config::default() }.validate(&mut faults);
        assert!(faults.concat().starts_with("discovery.turn.secret: is missing"), "{faults:?}");
    }
}
