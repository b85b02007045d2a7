//! What of the topology is missing or stands otherwise, in words for an operator: what, both values, and the way from one to the other.

use serde_json::Value;

use super::{Binding, Queue, Reader, declare};

/// An argument or property that is not as wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Inequality {
    /// Its name.
    pub argument: String,
    /// What stands, if it is set.
    pub standing: Option<Value>,
    /// What is wanted, if it is to be set.
    pub wanted: Option<Value>,
}

/// One thing that is not as wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// An exchange is not there.
    ExchangeMissing {
        /// Its name.
        exchange: String,
    },
    /// An exchange is of another type, or not durable.
    Exchange {
        /// Its name.
        exchange: String,
        /// In what.
        inequality: Inequality,
    },
    /// A queue is not there.
    QueueMissing {
        /// Its name.
        queue: String,
    },
    /// A queue has other arguments.
    Queue {
        /// The queue as it is wanted.
        queue: Queue,
        /// In what.
        inequalities: Vec<Inequality>,
    },
    /// A queue is not bound.
    BindingMissing(Binding),
    /// A queue is bound to what nobody configured.
    BindingExtra(Binding),
    /// A policy takes messages away from a queue of ours.
    Policy {
        /// The queue.
        queue: String,
        /// The policy.
        policy: String,
        /// What it sets.
        key: String,
        /// To what.
        value: Value,
    },
    /// The broker refused a declaration in words that were not understood.
    Refused {
        /// Of what.
        what: String,
        /// Its words.
        words: String,
    },
}

impl Inequality {
    /// Reads a refusal: `inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received '1' but current is '3'`; a side that
    /// is not set is `none`, and one whose other side is not set is `the value '3' of type 'signedint'`.
    pub(super) fn in_refusal(words: &str) -> Option<Self> {
        let (_, rest) = words.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let (_, rest) = rest.split_once(": received ")?;
        let (received, current) = rest.split_once(" but current is ")?;
        Some(Self { argument: argument.to_owned(), standing: quoted(current), wanted: quoted(received) })
    }

    fn text(&self) -> String {
        let shown = |value: &Option<Value>| value.as_ref().map_or("not set".to_owned(), ToString::to_string);
        format!("{} is {}, wanted {}", self.argument, shown(&self.standing), shown(&self.wanted))
    }
}

/// A reply's text is 255 bytes at most, so that the end may be missing.
fn quoted(side: &str) -> Option<Value> {
    let (_, rest) = side.split_once('\'')?;
    Some(declare::value(rest.split_once('\'').map_or(rest, |(value, _)| value)))
}

impl Difference {
    /// For an operator; `vhost` goes into the commands to type.
    pub fn text(&self, vhost: &str) -> String {
        match self {
            Self::ExchangeMissing { exchange } => {
                format!("the exchange {exchange} is missing: run 'orrery migrate'")
            }
            Self::Exchange { exchange, inequality } => format!(
                "the exchange {exchange} stands otherwise: {}. It holds no message, its bindings are made again by 'orrery migrate':\n\
                 delete it on the management page and run 'orrery migrate' at once; what is published in between waits in the outbox",
                inequality.text()
            ),
            Self::QueueMissing { queue } => format!("the queue {queue} is missing: run 'orrery migrate'"),
            Self::Queue { queue, inequalities } => {
                let told: Vec<_> = inequalities.iter().map(Inequality::text).collect();
                format!(
                    "the queue {} stands otherwise: {}\n{}",
                    queue.name,
                    told.join("; "),
                    steps(queue, vhost)
                )
            }
            Self::BindingMissing(Binding { exchange, queue, key }) => {
                format!("the queue {queue} is not bound to {exchange} by {key}: run 'orrery migrate'")
            }
            Self::BindingExtra(Binding { exchange, queue, key }) => format!(
                "the queue {queue} is bound to {exchange} by {key}, which is not configured. Of a partner's queue 'orrery migrate' removes \
                 it; else remove it on the management page, or what comes by it becomes dead letters"
            ),
            Self::Policy { queue, policy, key, value } => format!(
                "the policy '{policy}' sets {key} to {value} on the queue {queue}: it loses messages or buries them early. \
                 Change its pattern or take {key} out of it"
            ),
            Self::Refused { what, words } => format!("the broker refused the {what}: {words}"),
        }
    }
}

/// An argument cannot be changed: the queue has to be emptied, deleted and declared anew.
fn steps(queue: &Queue, vhost: &str) -> String {
    let (name, mut steps) = (&queue.name, Vec::new());
    match &queue.reader {
        Reader::Handler(handler) => {
            let service = handler.split('.').next().unwrap_or(handler);
            steps.push(format!("stop every process of 'orrery serve' but one that runs only {service}"));
            steps.push(format!("wait until it has emptied {name} (messages 0: rabbitmqctl list_queues -p {vhost} name messages)"));
            steps.push("stop it too".to_owned());
        }
        Reader::Time(handler, delay) => {
            let service = handler.split('.').next().unwrap_or(handler);
            steps.push(format!("stop every process of 'orrery serve' that runs {service}"));
            steps.push(format!("wait {delay:?}: {name} empties itself into {handler}"));
        }
        Reader::Partner(partner) => {
            steps.push(format!("let {partner} read all that is in {name}, then stop"));
        }
    }
    steps.push(format!("rabbitmqctl delete_queue -p {vhost} {name}"));
    steps.push(
        "orrery migrate; what was published meanwhile waits in the outbox and is published again".to_owned(),
    );
    steps.push("start again what was stopped".to_owned());
    let numbered = steps.iter().enumerate().map(|(index, step)| format!("  {}. {step}", index + 1));
    format!("to move it:\n{}", numbered.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_is_read_in_each_of_its_forms() {
        let read = |rest: &str| {
            let words = format!(
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'e1' in vhost '/': {rest}"
            );
            let found = Inequality::in_refusal(&words).unwrap();
            assert_eq!(found.argument, "x-delivery-limit");
            (found.wanted, found.standing)
        };
        let number = |n: i64| Some(Value::from(n));
        assert_eq!(read("received '1' but current is '3'"), (number(1), number(3)));
        let none = "received none but current is the value '3' of type 'signedint'";
        assert_eq!(read(none), (None, number(3)));
        let empty = "received the value '' of type 'longstr' but current is none";
        assert_eq!(read(empty), (Some("".into()), None));
        assert_eq!(read("received none but current is the value 'cut sho"), (None, Some("cut sho".into())));
        assert_eq!(Inequality::in_refusal("PRECONDITION_FAILED - invalid arg 'x' for queue 'q'"), None);
    }

    #[test]
    fn a_difference_names_queue_argument_both_values_and_the_way() {
        let queue = Queue {
            name: "maily.email.retry.5".to_owned(),
            arguments: super::super::Arguments::new(),
            reader: Reader::Time("maily.email", Duration::from_millis(5)),
        };
        let inequality = Inequality {
            argument: "x-message-ttl".to_owned(),
            standing: Some(7.into()),
            wanted: Some(5.into()),
        };
        let text = Difference::Queue { queue, inequalities: vec![inequality] }.text("/shop");
        for part in [
            "maily.email.retry.5 stands otherwise",
            "x-message-ttl is 7, wanted 5",
            "that runs maily",
            "rabbitmqctl delete_queue -p /shop maily.email.retry.5",
            "orrery migrate",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
