//! What stands at the broker, read by its management plugin, beside what is wanted: arguments, bindings, policies, queues that nobody
//! uses any more. What can be told without the plugin is in `declare`.

use std::collections::{BTreeMap, BTreeSet};

use crate::management::{Management, ManagementError};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Arguments, Binding, Queue, Reader, Topology,
    difference::{Difference, Inequality},
};

/// What a policy must not set on queues of ours, since the shorter of policy and argument rules. Lengths are an operator's to choose
/// (a full queue refuses), but not of dead letters, whose oldest would be dropped.
const TAKES_AWAY: [&str; 3] = ["message-ttl", "delivery-limit", "expires"];
const SHORTENS: [&str; 2] = ["max-length", "max-length-bytes"];

/// What stands in our virtual host.
#[derive(Debug, Default)]
pub struct Standing {
    exchanges: Vec<StandingExchange>,
    queues: BTreeMap<String, StandingQueue>,
    bindings: BTreeSet<Binding>,
}

#[derive(Debug, Deserialize)]
struct StandingExchange {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
}

#[derive(Debug, Deserialize)]
struct StandingQueue {
    name: String,
    durable: bool,
    #[serde(default)]
    arguments: Arguments,
    #[serde(default)]
    policy: Option<String>,
    // An empty one is written as a list by some versions.
    #[serde(default)]
    effective_policy_definition: Value,
}

#[derive(Deserialize)]
struct StandingBinding {
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
}

impl Standing {
    /// Reads all of it.
    ///
    /// # Errors
    /// When the management API cannot be reached or refuses.
    pub async fn read(management: &Management) -> Result<Self, ManagementError> {
        let vhost = management.vhost();
        let columns = ["name", "durable", "arguments", "policy", "effective_policy_definition"];
        let queues: Vec<StandingQueue> = management.list(&["queues", vhost], &columns).await?;
        let bindings: Vec<StandingBinding> = management
            .list(&["bindings", vhost], &["source", "destination", "destination_type", "routing_key"])
            .await?;
        // The default exchange is bound to every queue, and is called nothing.
        let bindings = bindings.into_iter().filter(|b| b.destination_type == "queue" && !b.source.is_empty());
        Ok(Self {
            exchanges: management.list(&["exchanges", vhost], &["name", "type", "durable"]).await?,
            queues: queues.into_iter().map(|queue| (queue.name.clone(), queue)).collect(),
            bindings: bindings
                .map(|b| Binding { exchange: b.source, queue: b.destination, key: b.routing_key })
                .collect(),
        })
    }

    /// What is missing or otherwise than wanted.
    pub fn differences(&self, wanted: &Topology) -> Vec<Difference> {
        let mut differences = Vec::new();
        for exchange in &wanted.exchanges {
            differences.extend(self.exchange_difference(exchange));
        }
        for queue in &wanted.queues {
            let Some(standing) = self.queues.get(&queue.name) else {
                differences.push(Difference::QueueMissing { queue: queue.name.clone() });
                continue;
            };
            let inequalities = standing.inequalities(queue);
            if !inequalities.is_empty() {
                differences.push(Difference::Queue { queue: queue.clone(), inequalities });
            }
            differences.extend(standing.policies(queue));
        }
        let bindings: BTreeSet<_> = wanted.bindings.iter().collect();
        let missing = bindings.iter().filter(|binding| !self.bindings.contains(**binding));
        differences.extend(missing.map(|binding| Difference::BindingMissing((*binding).clone())));
        differences.extend(self.extra(wanted).map(Difference::BindingExtra));
        differences
    }

    /// Bindings of wanted queues that nobody configured.
    fn extra(&self, wanted: &Topology) -> impl Iterator<Item = Binding> {
        let ours: BTreeSet<_> = wanted.queues.iter().map(|queue| queue.name.as_str()).collect();
        let extra = self.bindings.iter().filter(move |binding| {
            ours.contains(binding.queue.as_str()) && !wanted.bindings.contains(*binding)
        });
        extra.cloned()
    }

    /// Retry queues of wanted handlers whose delay is configured no more: nobody publishes to them, and they empty themselves.
    pub fn retired(&self, wanted: &Topology) -> Vec<&str> {
        let handlers: BTreeSet<_> = wanted
            .queues
            .iter()
            .filter_map(|queue| match queue.reader {
                Reader::Time(handler, _) => Some(format!("{handler}.retry.")),
                _ => None,
            })
            .collect();
        let names = self.queues.keys().map(String::as_str);
        names
            .filter(|name| handlers.iter().any(|prefix| name.starts_with(prefix)))
            .filter(|name| !wanted.queues.iter().any(|queue| queue.name == *name))
            .collect()
    }

    fn exchange_difference(&self, exchange: &str) -> Option<Difference> {
        let Some(standing) = self.exchanges.iter().find(|standing| standing.name == exchange) else {
            return Some(Difference::ExchangeMissing { exchange: exchange.to_owned() });
        };
        let (argument, is, should) = match (standing.kind.as_str(), standing.durable) {
            ("topic", true) => return None,
            ("topic", false) => ("durable", Value::from(false), Value::from(true)),
            (kind, _) => ("type", Value::from(kind), Value::from("topic")),
        };
        let (argument, standing) = (argument.to_owned(), Some(is));
        let inequality = Inequality { argument, standing, wanted: Some(should) };
        Some(Difference::Exchange { exchange: exchange.to_owned(), inequality })
    }
}

impl StandingQueue {
    fn inequalities(&self, queue: &Queue) -> Vec<Inequality> {
        let mut found = Vec::new();
        if !self.durable {
            let (standing, wanted) = (Some(false.into()), Some(true.into()));
            found.push(Inequality { argument: "durable".to_owned(), standing, wanted });
        }
        let names: BTreeSet<_> = queue.arguments.keys().chain(self.arguments.keys()).collect();
        for name in names {
            let (standing, wanted) = (self.arguments.get(name), queue.arguments.get(name));
            if standing != wanted {
                let (standing, wanted) = (standing.cloned(), wanted.cloned());
                found.push(Inequality { argument: name.clone(), standing, wanted });
            }
        }
        found
    }

    fn policies(&self, queue: &Queue) -> Vec<Difference> {
        if matches!(queue.reader, Reader::Partner(_)) {
            return Vec::new();
        }
        // Only the dead letters' queues have no overflow of their own that refuses.
        let drops = !queue.arguments.contains_key("x-overflow");
        let set = self.effective_policy_definition.as_object().into_iter().flat_map(Map::iter);
        set.filter(|(key, _)| {
            TAKES_AWAY.contains(&key.as_str()) || (drops && SHORTENS.contains(&key.as_str()))
        })
        .map(|(key, value)| Difference::Policy {
            queue: queue.name.clone(),
            policy: self.policy.clone().unwrap_or_default(),
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use orrery_bus::{HandlerSpec, Once};

    fn wanted() -> Topology {
        let spec = HandlerSpec {
            name: "spinoza.images",
            mailbox: orrery_bus::Mailbox::own_work(1),
            retry_delay: Duration::from_secs(10),
            time_limit: Duration::from_secs(1),
            bindings: vec!["com.gravitalia.image.uploaded.v1"],
            once: Once::Inbox,
        };
        Topology::wanted(&[spec], &[], false)
    }

    /// Just what is wanted.
    fn standing(wanted: &Topology) -> Standing {
        let exchange =
            |name: &String| StandingExchange { name: name.clone(), kind: "topic".to_owned(), durable: true };
        let queue = |queue: &Queue| {
            let told = json!({"name": queue.name, "durable": true, "arguments": queue.arguments,
                              "policy": null, "effective_policy_definition": []});
            (queue.name.clone(), serde_json::from_value(told).unwrap())
        };
        Standing {
            exchanges: wanted.exchanges.iter().map(exchange).collect(),
            queues: wanted.queues.iter().map(queue).collect(),
            bindings: wanted.bindings.iter().cloned().collect(),
        }
    }

    fn told(standing: &Standing, wanted: &Topology) -> Vec<String> {
        standing.differences(wanted).iter().map(|difference| difference.text("/")).collect()
    }

    #[test]
    fn what_stands_as_wanted_differs_in_nothing() {
        let wanted = wanted();
        assert_eq!(told(&standing(&wanted), &wanted), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let wanted = wanted();
        let mut standing = standing(&wanted);
        standing.exchanges.retain(|exchange| exchange.name != "ingress");
        standing.exchanges[0].kind = "direct".to_owned();
        standing.queues.remove("spinoza.images.quarantine");
        let queue = standing.queues.get_mut("spinoza.images").unwrap();
        queue.arguments.insert("x-delivery-limit".to_owned(), 3.into());
        queue.arguments.insert("x-max-length".to_owned(), 9.into());
        queue.arguments.remove("x-overflow");
        let letters = standing.queues.get_mut("spinoza.images.dead").unwrap();
        letters.policy = Some("short".to_owned());
        letters.effective_policy_definition = json!({"max-length": 5});
        standing.bindings.clear();
        let binding = |key: &str| Binding {
            exchange: "events".to_owned(),
            queue: "spinoza.images".to_owned(),
            key: key.to_owned(),
        };
        standing.bindings.insert(binding("#"));
        let told = told(&standing, &wanted).join("\n");
        for part in [
            "the exchange events stands otherwise: type is \"direct\", wanted \"topic\"",
            "the exchange ingress is missing",
            "the queue spinoza.images.quarantine is missing",
            "x-delivery-limit is 3, wanted 1; x-max-length is 9, wanted not set; x-overflow is not set, wanted \"reject-publish\"",
            "the policy 'short' sets max-length to 5 on the queue spinoza.images.dead",
            "spinoza.images is not bound to events by com.gravitalia.image.uploaded.v1",
            "spinoza.images is bound to events by #, which is not configured",
        ] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }

    #[test]
    fn a_retry_queue_of_a_former_delay_is_retired_and_a_foreign_queue_is_not_ours() {
        let wanted = wanted();
        let mut standing = standing(&wanted);
        for name in ["spinoza.images.retry.7000", "shop.accounts"] {
            let told = json!({"name": name, "durable": true});
            standing.queues.insert(name.to_owned(), serde_json::from_value(told).unwrap());
        }
        assert_eq!(standing.retired(&wanted), ["spinoza.images.retry.7000"]);
        assert!(standing.differences(&wanted).is_empty());
    }
}
