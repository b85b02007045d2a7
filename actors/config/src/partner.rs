//! One of `broker.partners`: a third party that sends or receives events. Its user, queue and rights are made by `orrery_broker_admin::trust`.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::secret;

/// The words before every type of our own.
pub const RESERVED: &str = "com.gravitalia";

/// A third party.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Partner {
    /// Its name: the user is `partner-<name>`, its queue `partner.<name>`, the exchange it writes to `ingress.<name>`.
    pub name: String,
    /// The password of its user; without one, that of a user who is there already is left alone.
    #[serde(default, serialize_with = "secret::hidden_if_any")]
    pub password: Option<SecretString>,
    /// The file that holds it, instead of it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The types that it may publish, as patterns of a topic exchange: `com.acme.*` or `com.acme.#`.
    #[serde(default)]
    pub publishes: Vec<String>,
    /// The types that it gets, as patterns too.
    #[serde(default)]
    pub receives: Vec<String>,
    /// Whether it reads by AMQP 1.0 from a RabbitMQ 3, whose plugin must be told our attributes once more.
    #[serde(default)]
    pub amqp10: bool,
}

impl Partner {
    /// Its user at the broker.
    pub fn user(&self) -> String {
        format!("partner-{}", self.name)
    }

    /// The queue that it reads.
    pub fn queue(&self) -> String {
        format!("partner.{}", self.name)
    }

    /// The exchange that it writes to.
    pub fn exchange(&self) -> String {
        format!("ingress.{}", self.name)
    }

    /// The password of its user.
    ///
    /// # Errors
    /// A line for a person: it is given twice, or its file cannot be read.
    pub fn password(&self) -> Result<Option<SecretString>, String> {
        let path = format!("broker.partners.{}.password", self.name);
        secret::resolve(&path, self.password.as_ref(), self.password_file.as_ref())
    }

    /// Adds a line to `faults` for each fault.
    pub fn check(&self, faults: &mut Vec<String>) {
        let path = format!("broker.partners.{}", self.name);
        if !is_name(&self.name) {
            faults.push(format!("{path}.name: must be 1 to 32 of a-z, 0-9 and -"));
        }
        if self.password.is_some() && self.password_file.is_some() {
            faults.push(format!("{path}.password: is given twice; leave out one of the two"));
        }
        for pattern in &self.receives {
            if !is_pattern(pattern) {
                faults.push(format!("{path}.receives: '{pattern}' is no pattern such as com.example.*"));
            }
        }
        for pattern in &self.publishes {
            if !is_pattern(pattern) || !is_namespaced(pattern) {
                faults.push(format!(
                    "{path}.publishes: '{pattern}' must begin with two words of its own, such as com.acme.*"
                ));
            }
            if is_reserved(pattern) {
                faults.push(format!(
                    "{path}.publishes: '{pattern}' is ours; no partner may publish {RESERVED}.*"
                ));
            }
        }
    }
}

/// Whether all that a pattern can match is ours.
pub fn is_reserved(pattern: &str) -> bool {
    let lower = pattern.to_ascii_lowercase();
    lower.strip_prefix(RESERVED).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_pattern(pattern: &str) -> bool {
    pattern.len() <= 200 && pattern.split('.').all(|word| matches!(word, "*" | "#") || is_word(word))
}

fn is_namespaced(pattern: &str) -> bool {
    pattern.split('.').count() > 2 && pattern.split('.').take(2).all(is_word)
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(publishes: &str, receives: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let partner = Partner {
            name: "acme".to_owned(),
            password: None,
            password_file: None,
            publishes: vec![publishes.to_owned()],
            receives: vec![receives.to_owned()],
            amqp10: false,
        };
        partner.check(&mut faults);
        faults
    }

    #[test]
    fn a_partner_publishes_in_a_namespace_of_its_own() {
        assert!(faults("com.acme.*", "com.gravitalia.account.#").is_empty());
        assert!(faults("com.acme.order-placed.v1", "#").is_empty());
        for wide in ["#", "*", "com.*", "com.*.x", "com.acme", "*.gravitalia.x", "com.acme.a b", "com..x", ""]
        {
            assert!(!faults(wide, "#").is_empty(), "{wide}");
        }
        for ours in ["com.gravitalia.#", "com.gravitalia.email", "com.Gravitalia.x"] {
            assert!(faults(ours, "#").iter().any(|fault| fault.contains("is ours")), "{ours}");
        }
        assert!(faults("com.gravitaliana.x", "#").is_empty());
        assert!(!faults("com.acme.*", "com.acme.(x|y)").is_empty());
    }
}
