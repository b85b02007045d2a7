//! Who may do what at the broker (decision 15): the rights of our own user and of each partner's, as data. `apply` sets them by the
//! management API and looks whether they are set, `commands` writes them as commands to type.

pub mod apply;
pub mod commands;

use orrery_config::{broker::Broker, partner::Partner};
use orrery_schemas::topology::{EVENTS, INGRESS, PARTNERS, pattern};
use serde_json::{Value, json};

/// What begins the names of partners' users. Users belong to the whole broker, not to a virtual host.
pub const PARTNER_USER: &str = "partner-";

/// The policy that bounds partners' queues.
pub const POLICY: &str = "orrery-partners";

/// Connections and channels that a partner may have open.
const LIMITS: [(&str, u32); 2] = [("max-connections", 16), ("max-channels", 64)];

/// What a user may do on our virtual host, as regular expressions of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Whose.
    pub user: String,
    /// What it may declare and delete.
    pub configure: String,
    /// What it may write to, and bind.
    pub write: String,
    /// What it may read from.
    pub read: String,
    /// To which exchange it may write which routing keys.
    pub topic: Option<(String, String)>,
}

/// The rights of our own user: exchanges, and queues named after one of these services, a bridge or a partner.
pub fn house(user: &str, services: &[&str]) -> Rights {
    let queues = format!("({}|orrery|partner)\\..+|email", services.join("|"));
    let exchanges = format!("{EVENTS}|{PARTNERS}|{INGRESS}(\\..+)?");
    Rights {
        user: user.to_owned(),
        configure: format!("^({queues}|{exchanges})$"),
        // Commands, retries and dead letters go by the default exchange. Nothing of ours is published to `ingress`.
        write: format!("^({queues}|{EVENTS}|{PARTNERS}|amq\\.default)$"),
        read: format!("^({queues}|{exchanges})$"),
        topic: Some((EVENTS.to_owned(), r"^com\.gravitalia\.".to_owned())),
    }
}

/// The rights of a partner: it writes to its own exchange types of its own, and reads its own queue.
pub fn partner(partner: &Partner) -> Rights {
    let name = &partner.name;
    let may_write = !partner.publishes.is_empty();
    Rights {
        user: partner.user(),
        configure: "^$".to_owned(),
        write: if may_write { format!("^ingress\\.{name}$") } else { "^$".to_owned() },
        read: format!("^partner\\.{name}$"),
        topic: Some((partner.exchange(), pattern::regex(&partner.publishes))),
    }
}

/// Bounds partners' queues, so that one that nobody reads does not fill the disk. The oldest go first: a full queue that refused would
/// refuse our own event for everybody.
fn policy(config: &Broker) -> Value {
    json!({
        "pattern": r"^partner\.",
        "apply-to": "queues",
        "priority": 0,
        "definition": {
            "max-length-bytes": config.partner_queue_bytes,
            "overflow": "drop-head",
            "message-ttl": u64::try_from(config.event_lifetime.as_millis()).unwrap_or(u64::MAX),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partner_has_nothing_but_its_exchange_and_its_queue() {
        let mut acme = Partner {
            name: "acme".to_owned(),
            password: None,
            password_file: None,
            publishes: vec!["com.acme.*".to_owned()],
            receives: Vec::new(),
            amqp10: false,
        };
        let rights = partner(&acme);
        assert_eq!((rights.user.as_str(), rights.configure.as_str()), ("partner-acme", "^$"));
        assert_eq!((rights.write.as_str(), rights.read.as_str()), (r"^ingress\.acme$", r"^partner\.acme$"));
        assert_eq!(rights.topic, Some(("ingress.acme".to_owned(), r"^(com\.acme\.[^.]+)$".to_owned())));
        acme.publishes.clear();
        assert_eq!(partner(&acme).write, "^$");
    }

    #[test]
    fn our_user_has_no_right_to_what_is_not_ours() {
        let rights = house("orrery", &["autha", "maily", "spinoza", "gateway"]);
        let all = "^((autha|";
        assert!(rights.write.starts_with(all) && rights.read.starts_with(all), "{rights:?}");
        assert!(
            rights.write.ends_with(r"|orrery|partner)\..+|email|events|partners|amq\.default)$"),
            "{rights:?}"
        );
        assert!(!rights.write.contains(INGRESS), "{rights:?}");
        assert!(!rights.configure.contains("amq"));
    }
}
