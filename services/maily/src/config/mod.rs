//! The section `maily` of the configuration: its fields, their defaults and what is refused about them. A mail server's own fields
//! live in `relay`. How the section is read (files, environment) is the binary's matter.

mod relay;

use std::{path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use orrery_config::{Section, secret};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::relay::{Authentication, Relay, Tls};
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
    pub smtp: Relay,
    /// Further servers, tried in this order while the ones before cannot be reached.
    pub fallback: Vec<Relay>,
    /// Keys that sign what is sent; two (Ed25519 and RSA) make two signatures.
    pub dkim: Vec<DkimKey>,
    /// Mails a minute to one domain; more wait. 0 is no limit.
    pub domain_rate: u32,
    /// Bounces, which suppress an address.
    pub bounces: Bounces,
    /// Locale (BCP 47) of a mail whose recipient asked for one that has no templates.
    pub default_locale: String,
    /// Time between the first try of a mail and its only other one.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// Mails in work at once.
    pub concurrency: u16,
    /// Mails that are taken from the queue ahead of their work.
    pub capacity: u16,
    /// Name of the platform as readers of mails see it.
    pub brand: String,
    /// What else mails show of the platform.
    pub branding: Branding,
    /// A folder of templates that take the place of those of the same name in the binary.
    pub templates_dir: Option<PathBuf>,
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

/// What mails show of the platform besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Branding {
    /// Colour of buttons and of the mark, `#rrggbb`; white text must be readable on it.
    pub accent: String,
    /// Where the platform is; the name at the top of a mail leads there.
    pub url: Option<Url>,
    /// Whom readers may ask: an address or a URL.
    pub support: Option<String>,
    /// Last line of every mail: who sends it, where a law asks for that.
    pub imprint: Option<String>,
}

/// A key that signs mails (DKIM).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DkimKey {
    /// Name of the key: its record is `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// Whom it signs for; the sender's domain when not given.
    #[serde(default)]
    pub domain: Option<String>,
    /// The private key in PEM (RSA or Ed25519).
    #[serde(default, serialize_with = "secret::hidden_if_any")]
    pub key: Option<SecretString>,
    /// File that holds it, in place of `key`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// Where mails that could not be delivered come back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounces {
    /// Sender of the envelope, `bounces@your.domain`: what is delivered to `bounces+...@your.domain` must end up in `maildir`.
    pub address: Option<String>,
    /// The Maildir that they end up in.
    pub maildir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from: "Orrery <no-reply@orrery.example>".into(),
            transport: TransportKind::default(),
            capture_dir: ".run/mail".into(),
            smtp: Relay::default(),
            fallback: Vec::new(),
            dkim: Vec::new(),
            domain_rate: 0,
            bounces: Bounces::default(),
            default_locale: "en".into(),
            retry_delay: Duration::from_secs(15 * 60),
            concurrency: 8,
            capacity: 0,
            brand: "Orrery".into(),
            branding: Branding::default(),
            templates_dir: None,
            legacy_queue: false,
        }
    }
}

impl Default for Branding {
    fn default() -> Self {
        Self { accent: "#33477a".into(), url: None, support: None, imprint: None }
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
            TransportKind::Smtp => self.relays().for_each(|(path, relay)| relay.faults(&path, &mut faults)),
        }
        for key in &self.dkim {
            if !relay::is_host_name(&key.selector)
                || key.domain.as_ref().is_some_and(|domain| !relay::is_host_name(domain))
            {
                faults.push("maily.dkim: selector and domain are names as DNS has them (letters, digits, dots, dashes)".into());
            }
            if key.key.is_some() == key.key_file.is_some() {
                faults.push(format!("maily.dkim ({}): give either key or key_file", key.selector));
            }
        }
        self.bounce_faults(&mut faults);
        self.template_faults(&mut faults);
        if self.retry_delay < Duration::from_secs(1) {
            faults.push("maily.retry_delay: must be at least 1s".into());
        }
        if self.concurrency == 0 {
            faults.push("maily.concurrency: must be at least 1".into());
        }
        if self.capacity > 4096 {
            faults.push("maily.capacity: must be 0 to 4096".into());
        }
        if self.brand.trim().is_empty() || self.brand.chars().any(char::is_control) {
            faults.push("maily.brand: must be a name of one line".into());
        }
        self.branding.faults(&mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The servers in order, each with its section's path.
    pub fn relays(&self) -> impl Iterator<Item = (String, &Relay)> {
        let further =
            self.fallback.iter().enumerate().map(|(at, relay)| (format!("maily.fallback.{at}"), relay));
        std::iter::once(("maily.smtp".to_owned(), &self.smtp)).chain(further)
    }

    /// Upper bound of one mail's way past all servers, apart from the wait for a connection.
    #[must_use]
    pub fn longest_send(&self) -> Duration {
        self.relays().map(|(_, relay)| relay.longest_send()).fold(Duration::ZERO, Duration::saturating_add)
    }

    fn bounce_faults(&self, faults: &mut Vec<String>) {
        match (&self.bounces.address, &self.bounces.maildir) {
            (Some(address), Some(_)) => {
                let is_plain =
                    address.parse::<lettre::Address>().is_ok_and(|address| !address.user().contains('+'));
                if !is_plain {
                    faults.push("maily.bounces.address: is no address without a + in it".into());
                }
            }
            (None, None) => {}
            _ => faults.push("maily.bounces: address and maildir belong together".into()),
        }
    }

    fn template_faults(&self, faults: &mut Vec<String>) {
        if self.templates_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
            faults.push("maily.templates_dir: is no directory".into());
            return;
        }
        // Each of an operator's own is written once with its sample data, so that what is wrong with it is told here; those in the binary
        // are tested.
        let checked = if self.templates_dir.is_some() {
            render::Renderer::new(self).map(drop)
        } else {
            render::check_locale(&self.default_locale)
        };
        if let Err(error) = checked {
            faults.push(match error {
                render::RenderError::UnknownLocale { known } => format!(
                    "maily.default_locale: there are no templates for {:?}; known are {known}",
                    self.default_locale
                ),
                error => format!("maily.templates_dir: {error}"),
            });
        }
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

impl Branding {
    fn faults(&self, faults: &mut Vec<String>) {
        let digits = self.accent.strip_prefix('#').unwrap_or_default();
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            faults.push("maily.branding.accent: is a colour such as \"#33477a\"".into());
        }
        if self.url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            faults.push("maily.branding.url: begins with https://".into());
        }
        for (field, text) in [("support", &self.support), ("imprint", &self.imprint)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty() || text.chars().any(char::is_control))
            {
                faults.push(format!("maily.branding.{field}: must be a text of one line"));
            }
        }
    }
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
        let smtp = Relay { host: "smtp.example".into(), ..Relay::default() };
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
