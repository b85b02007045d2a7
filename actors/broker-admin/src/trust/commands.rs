//! Users and rights as commands to type, for a broker without its management plugin. Passwords are asked for, never shown.

use lapin::uri::AMQPUri;
use orrery_config::broker::Broker;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{LIMITS, POLICY, Rights, apply::TrustError, house, partner, policy};

/// RabbitMQ's first user, its administrator; nothing is held from it.
const ADMINISTRATOR: &str = "guest";

/// The commands that set all that is configured; none when nothing is to be set.
///
/// # Errors
/// When `broker.url` is no address.
pub fn commands(config: &Broker, services: &[&str]) -> Result<Vec<String>, TrustError> {
    let uri: AMQPUri = config.url.expose_secret().parse().map_err(TrustError::Address)?;
    let (vhost, user, mut lines) = (uri.vhost.as_str(), &uri.authority.userinfo.username, Vec::new());
    if user != ADMINISTRATOR {
        rights(&mut lines, vhost, &house(user, services));
    }
    for one in &config.partners {
        let own = partner(one);
        rights(&mut lines, vhost, &own);
        let limits = LIMITS.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>();
        lines.push(format!("rabbitmqctl set_user_limits {} '{{{}}}'", own.user, limits.join(", ")));
    }
    if !config.partners.is_empty() {
        let policy = policy(config);
        let text = |name: &str| policy.get(name).and_then(Value::as_str).unwrap_or_default();
        let definition = policy.get("definition").map(Value::to_string).unwrap_or_default();
        let (pattern, to) = (text("pattern"), text("apply-to"));
        lines.push(format!(
            "rabbitmqctl set_policy -p {vhost} --apply-to {to} {POLICY} '{pattern}' '{definition}'"
        ));
    }
    Ok(lines)
}

fn rights(lines: &mut Vec<String>, vhost: &str, rights: &Rights) {
    let Rights { user, configure, write, read, topic } = rights;
    lines.push(format!(
        "rabbitmqctl add_user {user} # asks for the password; when it is there already, go on"
    ));
    if let Some((exchange, key)) = topic {
        lines.push(format!("rabbitmqctl set_topic_permissions -p {vhost} {user} {exchange} '{key}' '.*'"));
    }
    lines.push(format!("rabbitmqctl set_permissions -p {vhost} {user} '{configure}' '{write}' '{read}'"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(url: &str, partners: Value) -> Broker {
        serde_json::from_value(json!({"url": url, "partners": partners})).unwrap()
    }

    #[test]
    fn no_password_stands_in_a_command() {
        let partners = json!([{"name": "acme", "password": "s3cret-a", "publishes": ["com.acme.*"]}]);
        let lines =
            commands(&config("amqp://orrery:s3cret-b@host/%2f", partners), &["autha", "maily"]).unwrap();
        let all = lines.join("\n");
        assert!(!all.contains("s3cret"), "{all}");
        for part in [
            "rabbitmqctl add_user orrery #",
            "set_topic_permissions -p / orrery events '^com\\.gravitalia\\.' '.*'",
            "rabbitmqctl add_user partner-acme #",
            "set_permissions -p / partner-acme '^$' '^ingress\\.acme$' '^partner\\.acme$'",
            "set_policy -p / --apply-to queues orrery-partners '^partner\\.' '{\"max-length-bytes\":268435456,",
        ] {
            assert!(all.contains(part), "{part} is missing in {all}");
        }
    }

    #[test]
    fn the_administrator_of_a_developer_is_left_alone() {
        assert!(commands(&config("amqp://guest:guest@127.0.0.1/%2f", json!([])), &[]).unwrap().is_empty());
    }
}
