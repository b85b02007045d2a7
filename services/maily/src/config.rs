//! The section `maily` of the configuration: its fields, their defaults and what is refused about them.
//! How the section is read (files, environment) is the binary's matter.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use orrery_actors::config::{Section, secret};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::render;

/// Settings of the mail service (`[maily]`, `ORRERY_MAILY__*`).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sender of every mail, `Name <local@domain>` or a bare address; its domain is also that of every Message-ID.
    pub from: String,
    /// Where mails go.
    pub transport: TransportKind,
    /// Directory of the `.eml` files when mails are captured; made when missing.
    pub capture_dir: PathBuf,
    /// The SMTP server, used when `transport = "smtp"`.
    pub smtp: Smtp,
    /// Locale (BCP 47) of a mail whose recipient asked for one that has no templates.
    pub default_locale: String,
    /// Time between the first try of a mail and its only other one.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// Mails in work at once; also the consumer's prefetch.
    pub concurrency: u16,
    /// Name of the platform as readers of mails see it.
    pub brand: String,
    /// Whether the queue `email` is read too, which publishers from before Orrery write to.
    pub legacy_queue: bool,
}

/// What becomes of a mail that is ready to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// It is written to a file; nothing leaves the machine.
    #[default]
    Capture,
    /// It is handed to an SMTP server.
    Smtp,
}

/// The SMTP server that takes mails for submission.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smtp {
    /// Name or address of the server; the name is what its certificate is checked against.
    pub host: String,
    /// TCP port; 465, 587 or 25 as `tls` goes when not given.
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Name we announce in `EHLO`; the literal `[127.0.0.1]` when not given.
    pub hello: Option<String>,
    /// Account at the server; none means that it asks for none.
    pub username: Option<String>,
    /// Its password.
    #[serde(serialize_with = "secret::hidden_if_any")]
    pub password: Option<SecretString>,
    /// File that holds the password, in place of `password`; white space at its end is left out.
    pub password_file: Option<PathBuf>,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            from: "Orrery <no-reply@orrery.example>".into(),
            transport: TransportKind::default(),
            capture_dir: ".run/mail".into(),
            smtp: Smtp::default(),
            default_locale: "en".into(),
            retry_delay: Duration::from_secs(15 * 60),
            concurrency: 8,
            brand: "Orrery".into(),
            legacy_queue: false,
        }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: None,
            tls: Tls::default(),
            hello: None,
            username: None,
            password: None,
            password_file: None,
            timeout: Duration::from_secs(10),
            pool_size: 4,
        }
    }
}

impl Config {
    /// Checks every field and reports all faults at once, each beginning with the field's path.
    ///
    /// # Errors
    /// The faults, in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if let Err(fault) = self.from_mailbox() {
            faults.push(fault);
        }
        match self.transport {
            TransportKind::Capture if self.capture_dir.as_os_str().is_empty() => {
                faults.push("maily.capture_dir: is empty; name a directory for captured mails".into());
            }
            TransportKind::Capture => {}
            TransportKind::Smtp => self.smtp.faults(&mut faults),
        }
        if render::find_locale(&self.default_locale).is_none() {
            let known = render::LOCALES.join(", ");
            faults.push(format!(
                "maily.default_locale: there are no templates for {:?}; known are {known}",
                self.default_locale
            ));
        }
        if self.retry_delay < Duration::from_secs(1) {
            faults.push("maily.retry_delay: must be at least 1s".into());
        }
        if self.concurrency == 0 {
            faults.push("maily.concurrency: must be at least 1".into());
        }
        if self.brand.trim().is_empty() || self.brand.chars().any(char::is_control) {
            faults.push("maily.brand: must be a name of one line".into());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The sender as a mailbox.
    ///
    /// # Errors
    /// The fault, with the field's path, when `from` is not one mailbox.
    pub fn from_mailbox(&self) -> Result<Mailbox, String> {
        self.from
            .parse()
            .map_err(|error| format!("maily.from: {error}; write it as \"Orrery <no-reply@your.domain>\""))
    }
}

impl Smtp {
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
    /// wait for a connection. A stale pooled connection can add three answers, a new one connecting and four.
    #[must_use]
    pub fn longest_send(&self) -> Duration {
        self.timeout.saturating_mul(8).saturating_add(self.accept_timeout())
    }

    fn faults(&self, faults: &mut Vec<String>) {
        if self.host.trim().is_empty() {
            faults.push(
                "maily.smtp.host: is empty; name the SMTP server or set maily.transport = \"capture\"".into(),
            );
        }
        if self.port == Some(0) {
            faults.push("maily.smtp.port: must not be 0".into());
        }
        if self.password.is_some() && self.password_file.is_some() {
            faults.push("maily.smtp.password_file: give either it or maily.smtp.password, not both".into());
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        match (&self.username, has_password) {
            (Some(_), false) => {
                faults.push("maily.smtp.password: is missing for the given maily.smtp.username".into());
            }
            (None, true) => {
                faults.push("maily.smtp.username: is missing for the given password".into());
            }
            (Some(_), true) if self.tls == Tls::None && !is_loopback(&self.host) => faults.push(
                "maily.smtp.tls: \"none\" would send the password in the clear; set \"starttls\" or \"tls\""
                    .into(),
            ),
            _ => {}
        }
        if self.hello.as_ref().is_some_and(|name| !is_host_name(name)) {
            faults.push("maily.smtp.hello: must be the host name of this machine".into());
        }
        if self.timeout < Duration::from_millis(100) {
            faults.push("maily.smtp.timeout: must be at least 100ms".into());
        }
        if self.pool_size == 0 {
            faults.push("maily.smtp.pool_size: must be at least 1".into());
        }
    }
}

/// Whether what is sent to `host` stays on this machine. Names other than `localhost` are not looked up.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        faults.extend(Self::validate(self).err().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp() -> Config {
        let smtp = Smtp { host: "smtp.example".into(), ..Smtp::default() };
        Config { transport: TransportKind::Smtp, smtp, ..Config::default() }
    }

    fn only_fault(config: &Config) -> String {
        let faults = config.validate().unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.concat()
    }

    #[test]
    fn defaults_need_nothing() {
        assert_eq!(Config::default().validate(), Ok(()));
        assert_eq!(smtp().validate(), Ok(()));
    }

    #[test]
    fn sections_are_read_with_their_units() {
        let config: Config = serde_json::from_str(
            r#"{"transport":"smtp","retry_delay":"2min","smtp":{"host":"h","tls":"tls","timeout":"3s","username":"u","password":"hunter2"}}"#,
        )
        .unwrap();
        assert_eq!(config.retry_delay, Duration::from_secs(120));
        assert_eq!(config.smtp.timeout, Duration::from_secs(3));
        assert_eq!(config.smtp.port(), 465);
        assert_eq!(config.validate(), Ok(()));
        assert!(serde_json::from_str::<Config>(r#"{"transprot":"smtp"}"#).is_err());
    }

    #[test]
    fn debug_output_hides_the_password() {
        let mut config = smtp();
        config.smtp.password = Some("hunter2".into());
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn every_fault_is_reported_with_its_path() {
        let mut config = smtp();
        config.from = "nobody".into();
        config.smtp.host = String::new();
        config.smtp.pool_size = 0;
        config.default_locale = "tlh".into();
        config.concurrency = 0;
        let faults = config.validate().unwrap_err();
        let paths: Vec<_> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(
            paths,
            [
                "maily.from",
                "maily.smtp.host",
                "maily.smtp.pool_size",
                "maily.default_locale",
                "maily.concurrency"
            ]
        );
    }

    #[test]
    fn credentials_are_not_sent_in_the_clear_to_another_machine() {
        let mut config = smtp();
        config.smtp.username = Some("u".into());
        config.smtp.password = Some("p".into());
        config.smtp.tls = Tls::None;
        assert!(only_fault(&config).starts_with("maily.smtp.tls:"));
        for loopback in ["localhost", "127.0.0.1", "::1", "[::1]"] {
            config.smtp.host = loopback.into();
            assert_eq!(config.validate(), Ok(()), "{loopback}");
        }
    }

    #[test]
    fn credentials_come_in_pairs_and_from_one_place() {
        let mut config = smtp();
        config.smtp.username = Some("u".into());
        assert!(only_fault(&config).starts_with("maily.smtp.password:"));
        config.smtp.password = Some("p".into());
        config.smtp.password_file = Some("/run/secrets/smtp".into());
        assert!(only_fault(&config).starts_with("maily.smtp.password_file:"));
        config.smtp.password_file = None;
        config.smtp.username = None;
        assert!(only_fault(&config).starts_with("maily.smtp.username:"));
    }
}
