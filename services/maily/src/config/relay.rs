//! One mail server in the configuration: `[maily.smtp]`, and each `[[maily.fallback]]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use orrery_config::secret;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A server that takes mails for submission.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Name or address of the server; the name is what its certificate is checked against.
    pub host: String,
    /// TCP port; 465, 587 or 25 as `tls` goes when not given.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// PEM file of the authorities that its certificate may come from, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Name we announce in `EHLO`; the literal `[127.0.0.1]` when not given.
    pub hello: Option<String>,
    /// Account at the server; none means that it asks for none.
    pub username: Option<String>,
    /// Its password, or the access token of XOAUTH2.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub password: Option<SecretString>,
    /// File that holds the password, in place of `password`; read at each log-in, so that a token can be replaced. The line end at its
    /// end is left out.
    pub password_file: Option<PathBuf>,
    /// How we log in.
    pub authentication: Authentication,
    /// Longest wait for one answer of the server (the one after the message itself may take six times as long).
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Connections to the server at most; more mails wait for one.
    pub pool_size: u32,
}

/// How a connection to the SMTP server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all: for a server on the same machine or network.
    None,
    /// Upgraded by STARTTLS before anything else is said; a server without it is refused (RFC 3207).
    #[default]
    Starttls,
    /// From the first byte (RFC 8314).
    Tls,
}

/// How we log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// PLAIN where the server offers it, else LOGIN.
    #[default]
    Auto,
    /// RFC 4616.
    Plain,
    /// The older form of it.
    Login,
    /// An OAuth 2 access token in place of the password.
    Xoauth2,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: None,
            tls: Tls::default(),
            ca_file: None,
            hello: None,
            username: None,
            password: None,
            password_file: None,
            authentication: Authentication::default(),
            timeout: Duration::from_secs(10),
            pool_size: 4,
        }
    }
}

impl Relay {
    /// The host without the brackets in which an IPv6 address may stand.
    #[must_use]
    pub fn bare_host(&self) -> &str {
        let host = self.host.trim();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The TCP port to connect to: the given one, or the usual one for this kind of encryption.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::None => 25,
            Tls::Starttls => 587,
            Tls::Tls => 465,
        })
    }

    /// Longest wait for the answer that takes responsibility for a message. A server scans a message before it gives
    /// it, and giving up early doubles mails (RFC 5321, 4.5.3.2.6 asks for ten minutes).
    #[must_use]
    pub fn accept_timeout(&self) -> Duration {
        self.timeout.saturating_mul(6)
    }

    /// Upper bound of one mail's way through a connection of its own: what a lease has to outlast, apart from the
    /// wait for a connection. A stale pooled connection can add three answers, a new one connecting and seven (HELO, STARTTLS and the
    /// steps of a log-in among them).
    #[must_use]
    pub fn longest_send(&self) -> Duration {
        self.timeout.saturating_mul(12).saturating_add(self.accept_timeout())
    }

    pub(super) fn faults(&self, path: &str, faults: &mut Vec<String>) {
        if self.bare_host().is_empty() {
            faults.push(format!(
                "{path}.host: is empty; name the SMTP server or set maily.transport = \"capture\""
            ));
        } else if !is_host(self.bare_host()) {
            faults.push(format!(
                "{path}.host: is no host name and no IP address; the port has a field of its own"
            ));
        }
        if self.port == Some(0) {
            faults.push(format!("{path}.port: must not be 0"));
        }
        if self.password.is_some() && self.password_file.is_some() {
            faults.push(format!("{path}.password_file: give either it or {path}.password, not both"));
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        match (&self.username, has_password) {
            (Some(_), false) => {
                faults.push(format!("{path}.password: is missing for the given {path}.username"));
            }
            (None, true) => {
                faults.push(format!("{path}.username: is missing for the given password"));
            }
            (Some(_), true) if self.tls == Tls::None && !is_loopback(self.bare_host()) => {
                faults.push(format!(
                    "{path}.tls: \"none\" would send the password in the clear; set \"starttls\" or \"tls\""
                ))
            }
            _ => {}
        }
        if self.ca_file.is_some() && self.tls == Tls::None {
            faults.push(format!("{path}.ca_file: has no use with tls = \"none\""));
        }
        if self.hello.as_ref().is_some_and(|name| !is_host_name(name)) {
            faults.push(format!("{path}.hello: must be the host name of this machine"));
        }
        if self.timeout < Duration::from_millis(100) {
            faults.push(format!("{path}.timeout: must be at least 100ms"));
        }
        if self.pool_size == 0 {
            faults.push(format!("{path}.pool_size: must be at least 1"));
        }
    }
}

/// Whether what is sent to `host` stays on this machine. Names other than `localhost` are not looked up.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_host(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
        || host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

pub(super) fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_may_stand_in_brackets() {
        for (written, bare) in
            [("[::1]", "::1"), ("::1", "::1"), ("smtp.example", "smtp.example"), (" [::1] ", "::1")]
        {
            let relay = Relay { host: written.into(), tls: Tls::None, ..Relay::default() };
            assert_eq!(relay.bare_host(), bare);
            let mut faults = Vec::new();
            relay.faults("maily.smtp", &mut faults);
            assert_eq!(faults, Vec::<String>::new(), "{written}");
        }
        for wrong in ["smtp.example:587", "smtp://x", "a b", "[::1", "[]"] {
            let mut faults = Vec::new();
            Relay { host: wrong.into(), ..Relay::default() }.faults("maily.smtp", &mut faults);
            assert!(faults.concat().starts_with("maily.smtp.host: is"), "{wrong}: {faults:?}");
        }
    }
}
