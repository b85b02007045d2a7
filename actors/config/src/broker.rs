//! The section `broker`: where RabbitMQ is and how long to wait for it.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Section, authority::Roots, partner::Partner, secret};

/// RabbitMQ.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// `amqp://user:password@host:port/vhost` (the vhost `/` is `%2f`); `amqps` for TLS.
    #[serde(serialize_with = "secret::hidden")]
    pub url: SecretString,
    /// The file that holds the address, instead of it.
    pub url_file: Option<PathBuf>,
    /// `http://user:password@host:port` of the management plugin, for `orrery queues` and for users and permissions; not needed to run.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub management_url: Option<SecretString>,
    /// The file that holds it, instead of it.
    pub management_url_file: Option<PathBuf>,
    /// PEM file of the authority that signed the broker's certificates, for `amqps` and for `https` of the management plugin; without it those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection, or for an answer to a command.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long to wait for the confirm of a publish before it is tried again.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u16,
    /// How long an event may wait for a queue that takes it.
    #[serde(with = "humantime_serde")]
    pub event_lifetime: Duration,
    /// Third parties that send or receive events.
    pub partners: Vec<Partner>,
    /// Bytes that may wait for each of them; beyond it the oldest are dropped.
    pub partner_queue_bytes: u64,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: SecretString::from("amqp://guest:guest@127.0.0.1:5672/%2f"),
            url_file: None,
            management_url: None,
            management_url_file: None,
            ca_file: None,
            timeout: Duration::from_secs(5),
            confirm_timeout: Duration::from_secs(5),
            heartbeat_seconds: 10,
            event_lifetime: Duration::from_secs(7 * 24 * 3600),
            partners: Vec::new(),
            partner_queue_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Section for Broker {
    fn validate(&self, faults: &mut Vec<String>) {
        match Url::parse(self.url.expose_secret()) {
            Ok(url) if matches!(url.scheme(), "amqp" | "amqps") => options(&url, faults),
            _ => faults.push(
                "broker.url: is no address of RabbitMQ; write amqp://user:password@host:port/vhost"
                    .to_owned(),
            ),
        }
        let management = self.management_url.as_ref().map(|url| Url::parse(url.expose_secret()));
        if management.is_some_and(|url| !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))) {
            faults.push(
                "broker.management_url: is no address; write http://user:password@host:15672".to_owned(),
            );
        }
        faults.extend(Roots::of("broker.ca_file", self.ca_file.as_ref()).err());
        for (name, value) in [
            ("timeout", self.timeout),
            ("confirm_timeout", self.confirm_timeout),
            ("event_lifetime", self.event_lifetime),
        ] {
            if value.is_zero() {
                faults.push(format!("broker.{name}: must be above zero, such as 5s"));
            }
        }
        for (index, partner) in self.partners.iter().enumerate() {
            partner.check(faults);
            if self.partners.iter().take(index).any(|other| other.name == partner.name) {
                faults.push(format!("broker.partners: two are named '{}'", partner.name));
            }
        }
        if self.partner_queue_bytes == 0 {
            faults.push("broker.partner_queue_bytes: must be above zero".to_owned());
        }
        if self.heartbeat_seconds == 0 {
            faults.push("broker.heartbeat_seconds: must be above zero".to_owned());
        }
    }
}

/// What may stand after a question mark in `broker.url`; what would be ignored there is a fault.
fn options(url: &Url, faults: &mut Vec<String>) {
    for (name, _) in url.query_pairs() {
        let instead = match name.as_ref() {
            "channel_max" | "connection_timeout" | "auth_mechanism" => continue,
            "cacertfile" => "name the file by broker.ca_file",
            "heartbeat" => "set broker.heartbeat_seconds",
            "frame_max" => "leave it out, it is set where it is needed",
            "verify" | "server_name_indication" => "leave it out, certificates are always verified",
            _ => "known are channel_max, connection_timeout and auth_mechanism",
        };
        // Not the value: a password with an ampersand would be cut in two.
        let name: String = name.chars().take(40).filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        faults.push(format!("broker.url: there is no option '{name}': {instead}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_would_be_ignored_is_a_fault() {
        let faults = |url: &str| {
            let mut faults = Vec::new();
            Broker { url: url.into(), ..Broker::default() }.validate(&mut faults);
            faults
        };
        assert_eq!(faults("amqps://u:p@broker/%2f?channel_max=8&connection_timeout=100"), [""; 0]);
        for (option, instead) in [
            ("cacertfile=/ca.pem", "broker.ca_file"),
            ("heartbeat=5", "broker.heartbeat_seconds"),
            ("haertbeat=5", "there is no option 'haertbeat'"),
        ] {
            let found = faults(&format!("amqps://u:p@broker/%2f?{option}")).concat();
            assert!(found.contains(instead), "{found}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let mut faults = Vec::new();
        Broker { ca_file: Some("/missing.pem".into()), ..Broker::default() }.validate(&mut faults);
        assert!(faults.concat().starts_with("broker.ca_file: /missing.pem cannot be read"), "{faults:?}");
    }
}
