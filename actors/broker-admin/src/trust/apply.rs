//! Setting users and rights by the management API, and looking whether they are set.

use std::collections::BTreeSet;

use lapin::uri::AMQPUri;
use orrery_config::broker::Broker;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{LIMITS, PARTNER_USER, POLICY, Rights, house, partner, policy};
use crate::{
    management::{Management, ManagementError},
    topology::Topology,
};

/// Why users and rights were not set.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The API failed.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// `broker.url` is none.
    #[error("broker.url is no address of RabbitMQ: {0}")]
    Address(String),
    /// A password is missing or cannot be read.
    #[error("{0}")]
    Password(String),
}

#[derive(Deserialize)]
struct Permission {
    user: String,
}

#[derive(Deserialize)]
struct QueueBinding {
    source: String,
    routing_key: String,
    properties_key: String,
}

/// Makes our own user, its virtual host and its rights, where the management API is another user's. Gives a line for a person.
///
/// # Errors
/// When the API cannot be reached or refuses.
pub async fn set_house(
    management: &Management,
    config: &Broker,
    services: &[&str],
) -> Result<String, TrustError> {
    let uri = address(config)?;
    let user = uri.authority.userinfo.username;
    if user == management.user() {
        return Ok(format!(
            "broker.url and broker.management_url name the same user, {user}: its rights are left as they are"
        ));
    }
    let vhost = management.vhost();
    if management.get::<Value>(&["vhosts", vhost]).await?.is_none() {
        management.put(&["vhosts", vhost], &json!({})).await?;
    }
    if management.get::<Value>(&["users", &user]).await?.is_none() {
        let body = json!({"password": uri.authority.userinfo.password, "tags": ""});
        management.put(&["users", &user], &body).await?;
    }
    set_rights(management, &house(&user, services)).await?;
    Ok(format!("our own user at the broker, {user}, has its rights on {vhost}"))
}

/// Makes the partners' users and rights, bounds their queues, and takes away what is configured no more: whole users, and single
/// bindings. Their queues and exchanges must stand. Gives lines for a person.
///
/// # Errors
/// When the API cannot be reached or refuses, or a password is missing.
pub async fn set_partners(
    management: &Management,
    config: &Broker,
    wanted: &Topology,
) -> Result<Vec<String>, TrustError> {
    let (vhost, mut told) = (management.vhost(), Vec::new());
    if !config.partners.is_empty() {
        management.put(&["policies", vhost, POLICY], &policy(config)).await?;
    }
    for one in &config.partners {
        let rights = partner(one);
        let user = rights.user.as_str();
        match one.password().map_err(TrustError::Password)? {
            Some(password) => {
                let body = json!({"password": password.expose_secret(), "tags": ""});
                management.put(&["users", user], &body).await?;
            }
            None if management.get::<Value>(&["users", user]).await?.is_some() => {}
            None => {
                let name = &one.name;
                return Err(TrustError::Password(format!(
                    "broker.partners.{name}.password: is needed to make the user {user}; or name a password_file"
                )));
            }
        }
        set_rights(management, &rights).await?;
        for (limit, value) in LIMITS {
            management.put(&["user-limits", user, limit], &json!({ "value": value })).await?;
        }
        unbind(management, &one.queue(), wanted).await?;
        told.push(format!("the partner {} has the user {user} and its rights", one.name));
    }
    let listed: BTreeSet<_> = config.partners.iter().map(|one| one.user()).collect();
    for user in partners_with_rights(management).await? {
        if !listed.contains(&user) {
            told.push(take_away(management, &user, wanted).await?);
        }
    }
    Ok(told)
}

/// What of the rights is not set, in lines for a person.
///
/// # Errors
/// When the API cannot be reached or refuses.
pub async fn missing(
    management: &Management,
    config: &Broker,
    services: &[&str],
) -> Result<Vec<String>, TrustError> {
    let (vhost, mut faults) = (management.vhost(), Vec::new());
    let user = address(config)?.authority.userinfo.username;
    let own = (user != management.user()).then(|| house(&user, services));
    for rights in own.into_iter().chain(config.partners.iter().map(partner)) {
        let user = &rights.user;
        let standing: Option<Value> = management.get(&["permissions", vhost, user]).await?;
        let same = |name: &str, wanted: &str| {
            standing.as_ref().and_then(|rights| rights.get(name)).is_some_and(|is| is == wanted)
        };
        let all = [("configure", &rights.configure), ("write", &rights.write), ("read", &rights.read)];
        faults.extend(all.iter().filter(|(name, wanted)| !same(name, wanted)).map(|(name, wanted)| {
            let is = standing
                .as_ref()
                .and_then(|rights| rights.get(*name))
                .map_or("not set".to_owned(), Value::to_string);
            format!("the user {user} may {name} {is}, wanted \"{wanted}\": run 'orrery migrate'")
        }));
        if let Some((exchange, key)) = &rights.topic {
            let topics: Option<Vec<Value>> = management.get(&["topic-permissions", vhost, user]).await?;
            let set = topics.into_iter().flatten().any(|topic| {
                topic.get("exchange").is_some_and(|is| is == exchange)
                    && topic.get("write").is_some_and(|is| is == key)
            });
            if !set {
                faults.push(format!(
                    "the user {user} is not held to the keys {key} of {exchange}: run 'orrery migrate'"
                ));
            }
        }
    }
    let listed: BTreeSet<_> = config.partners.iter().map(|one| one.user()).collect();
    for user in partners_with_rights(management).await? {
        if !listed.contains(&user) {
            faults
                .push(format!("the user {user} has rights and is no partner any more: run 'orrery migrate'"));
        }
    }
    if !config.partners.is_empty() {
        let standing: Option<Value> = management.get(&["policies", vhost, POLICY]).await?;
        let wanted = policy(config);
        let definition = standing.as_ref().and_then(|policy| policy.get("definition"));
        if definition != wanted.get("definition") {
            faults.push(format!("the policy {POLICY} does not bound partners' queues: run 'orrery migrate'"));
        }
    }
    Ok(faults)
}

async fn set_rights(management: &Management, rights: &Rights) -> Result<(), ManagementError> {
    let (vhost, user) = (management.vhost(), rights.user.as_str());
    // First the narrower one: without it the user might write any key for a moment.
    if let Some((exchange, key)) = &rights.topic {
        let body = json!({"exchange": exchange, "write": key, "read": ".*"});
        management.put(&["topic-permissions", vhost, user], &body).await?;
    }
    let body = json!({"configure": rights.configure, "write": rights.write, "read": rights.read});
    management.put(&["permissions", vhost, user], &body).await
}

/// Users of partners that have rights on our virtual host, configured or not.
async fn partners_with_rights(management: &Management) -> Result<Vec<String>, ManagementError> {
    let all: Vec<Permission> =
        management.list(&["vhosts", management.vhost(), "permissions"], &["user"]).await?;
    Ok(all.into_iter().map(|one| one.user).filter(|user| user.starts_with(PARTNER_USER)).collect())
}

/// Takes a user's rights on our virtual host, its bindings, and the user itself unless it has rights elsewhere.
async fn take_away(
    management: &Management,
    user: &str,
    wanted: &Topology,
) -> Result<String, ManagementError> {
    let vhost = management.vhost();
    management.delete(&["permissions", vhost, user]).await?;
    management.delete(&["topic-permissions", vhost, user]).await?;
    let elsewhere: Option<Vec<Value>> = management.get(&["users", user, "permissions"]).await?;
    if elsewhere.is_none_or(|rights| rights.is_empty()) {
        management.delete(&["users", user]).await?;
    }
    let name = user.strip_prefix(PARTNER_USER).unwrap_or(user);
    let queue = format!("partner.{name}");
    unbind(management, &queue, wanted).await?;
    Ok(format!(
        "{name} is no partner any more: its user and rights are gone. Its queue {queue} gets nothing more and is kept with what is in it; \
         to throw it away: rabbitmqctl delete_queue -p {vhost} {queue}"
    ))
}

/// Removes what a partner's queue is bound to and should not be.
async fn unbind(management: &Management, queue: &str, wanted: &Topology) -> Result<(), ManagementError> {
    let vhost = management.vhost();
    let path = ["queues", vhost, queue, "bindings"];
    let standing: Vec<QueueBinding> = management.get(&path).await?.unwrap_or_default();
    for QueueBinding { source, routing_key, properties_key } in standing {
        let is_wanted = wanted.bindings.iter().any(|binding| {
            binding.queue == queue && binding.exchange == source && binding.key == routing_key
        });
        if !source.is_empty() && !is_wanted {
            management.delete(&["bindings", vhost, "e", &source, "q", queue, &properties_key]).await?;
        }
    }
    Ok(())
}

fn address(config: &Broker) -> Result<AMQPUri, TrustError> {
    config.url.expose_secret().parse().map_err(TrustError::Address)
}
