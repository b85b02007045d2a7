//! The topology of `docs/broker.md` as data: exchanges, and per handler the queue, its retries, its quarantine and its dead
//! letters; per partner its exchange and its queue. `orrery migrate` declares it (`declare`), `orrery check` compares it with what
//! stands (`standing`, `difference`), all by this one list.

pub mod declare;
pub mod difference;
pub mod standing;
pub mod watch;

use std::{collections::BTreeMap, time::Duration};

use lapin::types::{AMQPValue, FieldTable};
use orrery_bus::HandlerSpec;
use orrery_config::partner::{Partner, is_reserved};
use orrery_schemas::topology::{EVENTS, INGRESS, PARTNERS, dead, pattern, quarantine, retry};
use serde_json::Value;

/// Returns that a message may have without an answer before it goes to the quarantine queue.
const MAIN_LIMIT: i64 = 1;
/// The same for the quarantine queue, before it is a dead letter.
const QUARANTINE_LIMIT: i64 = 4;

/// A queue's arguments by their names: texts and whole numbers.
pub type Arguments = BTreeMap<String, Value>;

/// What the configuration wants, in the order in which it is declared: what a queue points at stands before the queue.
#[derive(Debug, Default)]
pub struct Topology {
    /// Topic exchanges, durable.
    pub exchanges: Vec<String>,
    /// Durable queues.
    pub queues: Vec<Queue>,
    /// Bindings of these queues.
    pub bindings: Vec<Binding>,
    /// Whether a queue that must have no delivery limit has to say so.
    pub default_limit: bool,
}

/// A durable queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// Who empties it.
    pub reader: Reader,
}

/// Who empties a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// The service of this handler or bridge.
    Handler(&'static str),
    /// Nobody: after this time its messages go back to the handler's queue.
    Time(&'static str, Duration),
    /// This partner.
    Partner(String),
}

/// A binding of a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The queue.
    pub queue: String,
    /// The pattern of routing keys.
    pub key: String,
}

impl Topology {
    /// All of it, for these handlers and partners. `default_limit` is [`declare::has_default_limit`]'s answer.
    pub fn wanted(handlers: &[HandlerSpec], partners: &[Partner], default_limit: bool) -> Self {
        let exchanges = vec![EVENTS.to_owned(), INGRESS.to_owned(), PARTNERS.to_owned()];
        let mut wanted = Self { exchanges, default_limit, ..Self::default() };
        wanted.exchanges.extend(partners.iter().map(Partner::exchange));
        for spec in handlers {
            wanted.handler(spec, partners);
        }
        for partner in partners {
            let name = partner.queue();
            let reader = Reader::Partner(partner.name.clone());
            for pattern in &partner.receives {
                wanted.bind(&name, pattern, partners);
            }
            wanted.queues.push(Queue { name, arguments: quorum(), reader });
        }
        wanted
    }

    fn handler(&mut self, spec: &HandlerSpec, partners: &[Partner]) {
        let name = spec.name;
        let letters = unlimited(self.default_limit);
        let mut declare = |queue: String, arguments, reader| {
            self.queues.push(Queue { name: queue, arguments, reader });
        };
        declare(dead(name), letters, Reader::Handler(name));
        declare(quarantine(name), limited(QUARANTINE_LIMIT, &dead(name)), Reader::Handler(name));
        declare(name.to_owned(), limited(MAIN_LIMIT, &quarantine(name)), Reader::Handler(name));
        for delay in spec.delays() {
            let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let arguments = with(dead_lettering_to(name), "x-message-ttl", millis);
            declare(retry(name, delay), arguments, Reader::Time(name, delay));
        }
        for ty in &spec.bindings {
            self.bind(name, ty, partners);
        }
    }

    /// Binds where events of these types come from: ours from `events`, foreign ones from `ingress`, from `partners` (over HTTP) and from each partner that may
    /// publish them. The two meet nowhere (decision 15).
    fn bind(&mut self, queue: &str, pattern: &str, partners: &[Partner]) {
        let mut from = |exchange: String| {
            let binding = Binding { exchange, queue: queue.to_owned(), key: pattern.to_owned() };
            self.bindings.push(binding);
        };
        if pattern::overlap(pattern, "com.gravitalia.#") {
            from(EVENTS.to_owned());
        }
        if !is_reserved(pattern) {
            from(INGRESS.to_owned());
            from(PARTNERS.to_owned());
            partners
                .iter()
                .filter(|partner| partner.publishes.iter().any(|sent| pattern::overlap(sent, pattern)))
                .for_each(|partner| from(partner.exchange()));
        }
    }

    /// A queue of a bridge, bound by this key to the exchange of what the operator runs. Without a delivery limit, since what cannot be
    /// turned is made a dead letter by the bridge itself, and a killed process is no reason for one.
    pub fn bridge(&mut self, queue: &'static str, key: &str) {
        let arguments = with(unlimited(self.default_limit), "x-overflow", "reject-publish");
        self.queues.push(Queue { name: queue.to_owned(), arguments, reader: Reader::Handler(queue) });
        self.bindings.push(Binding {
            exchange: INGRESS.to_owned(),
            queue: queue.to_owned(),
            key: key.to_owned(),
        });
    }

    /// The pattern of every binding, and every queue, which the default exchange takes as a key.
    pub fn routing_keys(&self) -> Vec<String> {
        let queues = self.queues.iter().map(|queue| queue.name.clone());
        queues.chain(self.bindings.iter().map(|binding| binding.key.clone())).collect()
    }
}

/// Arguments as lapin writes them.
pub fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap_or(i64::MAX)),
            Value::Bool(flag) => AMQPValue::Boolean(*flag),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            _ => continue,
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

fn quorum() -> Arguments {
    with(Arguments::new(), "x-queue-type", "quorum")
}

/// A quorum queue without a delivery limit, which says so where the broker has one by default.
fn unlimited(default_limit: bool) -> Arguments {
    if default_limit { with(quorum(), "x-delivery-limit", -1) } else { quorum() }
}

fn dead_lettering_to(queue: &str) -> Arguments {
    let arguments = with(quorum(), "x-dead-letter-exchange", "");
    let arguments = with(arguments, "x-dead-letter-routing-key", queue);
    let arguments = with(arguments, "x-dead-letter-strategy", "at-least-once");
    with(arguments, "x-overflow", "reject-publish")
}

fn limited(limit: i64, queue: &str) -> Arguments {
    with(dead_lettering_to(queue), "x-delivery-limit", limit)
}

fn with(mut arguments: Arguments, name: &str, value: impl Into<Value>) -> Arguments {
    arguments.insert(name.to_owned(), value.into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use orrery_bus::Once;

    fn partner(name: &str, publishes: &[&str], receives: &[&str]) -> Partner {
        let all = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        Partner {
            name: name.to_owned(),
            password: None,
            password_file: None,
            publishes: all(publishes),
            receives: all(receives),
            amqp10: false,
        }
    }

    fn spec(bindings: &[&'static str]) -> HandlerSpec {
        HandlerSpec {
            name: "maily.email",
            mailbox: orrery_bus::Mailbox::own_work(1),
            retry_delay: Duration::from_secs(900),
            time_limit: Duration::from_secs(1),
            bindings: bindings.to_vec(),
            once: Once::Inbox,
        }
    }

    fn sources<'a>(topology: &'a Topology, queue: &str) -> Vec<&'a str> {
        let of_queue = topology.bindings.iter().filter(|binding| binding.queue == queue);
        of_queue.map(|binding| binding.exchange.as_str()).collect()
    }

    #[test]
    fn what_a_queue_points_at_is_declared_before_it() {
        let topology = Topology::wanted(&[spec(&[])], &[], false);
        let names: Vec<_> = topology.queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "maily.email.dead",
                "maily.email.quarantine",
                "maily.email",
                "maily.email.retry.900000",
                "maily.email.retry.2000"
            ]
        );
        assert!(!topology.queues[0].arguments.contains_key("x-delivery-limit"));
        assert_eq!(topology.queues[2].arguments["x-delivery-limit"], 1);
        let unlimited = Topology::wanted(&[spec(&[])], &[], true);
        assert_eq!(unlimited.queues[0].arguments["x-delivery-limit"], -1);
    }

    #[test]
    fn a_bridges_queue_is_bound_to_where_others_write_and_buries_nothing_by_itself() {
        let mut topology = Topology::wanted(&[], &[], true);
        topology.bridge("spinoza.notifications", "s3.notifications");
        assert_eq!(sources(&topology, "spinoza.notifications"), [INGRESS]);
        assert_eq!(topology.queues[0].arguments["x-delivery-limit"], -1);
        assert!(!topology.queues[0].arguments.contains_key("x-dead-letter-exchange"));
    }

    #[test]
    fn our_own_types_never_come_from_where_others_write() {
        let partners = [
            partner("acme", &["com.acme.#"], &["com.gravitalia.account.#"]),
            partner("beta", &["com.beta.*"], &["com.acme.order.v1", "com.#"]),
        ];
        let ours = ["com.gravitalia.image.uploaded.v1", "com.gravitalia.#"];
        let topology = Topology::wanted(&[spec(&ours)], &partners, false);
        assert_eq!(sources(&topology, "maily.email"), [EVENTS, EVENTS]);
        assert_eq!(sources(&topology, "partner.acme"), [EVENTS]);
        let foreign =
            [INGRESS, PARTNERS, "ingress.acme", EVENTS, INGRESS, PARTNERS, "ingress.acme", "ingress.beta"];
        assert_eq!(sources(&topology, "partner.beta"), foreign);
    }
}
