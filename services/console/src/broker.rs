//! The figures that the broker has: all of them by the management API (they lag 5 s), ready and consumers by passive declares (now).

use std::collections::HashMap;

use lapin::Connection;
use orrery_broker_admin::{
    management::{Management, ManagementError},
    topology::declare,
};
use orrery_bus::{Bus, BusError, HandlerSpec, bridge::BridgeSpec};
use orrery_schemas::topology;
use serde::{Deserialize, Serialize};

/// What goes through one queue; what is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Messages that wait for a consumer.
    pub ready: Option<u64>,
    /// Messages that one has in hand.
    pub unacked: Option<u64>,
    /// Consumers.
    pub consumers: Option<u64>,
    /// Messages that come in, a second.
    pub in_per_second: Option<f64>,
    /// Messages that are done with, a second.
    pub out_per_second: Option<f64>,
}

/// The messages in all queues of one handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct QueueFigures {
    /// Its own queue.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Messages in its retry queues.
    pub retry: Option<u64>,
    /// Messages in its quarantine queue.
    pub quarantine: Option<u64>,
    /// Dead letters that are not in the table yet.
    pub unarchived: Option<u64>,
}

/// Whose queues are looked at.
pub struct Watched {
    /// Handlers, with all of their queues.
    pub handlers: Vec<HandlerSpec>,
    /// Bridges, with the queue that each empties.
    pub bridges: Vec<BridgeSpec>,
    /// Services that publish, with their rows of the outbox.
    pub producers: Vec<&'static str>,
}

impl Watched {
    /// What dead letters go by: handlers, and the queues of bridges.
    pub fn letter_names(&self) -> impl Iterator<Item = &'static str> {
        let handlers = self.handlers.iter().map(|spec| spec.name);
        handlers.chain(self.bridges.iter().map(|spec| spec.queue))
    }
}

/// What was found, in the order of what was asked for.
#[derive(Default)]
pub struct Found {
    /// The handlers' queues.
    pub handlers: Vec<QueueFigures>,
    /// The bridges' queues.
    pub bridges: Vec<Traffic>,
}

impl Found {
    /// Whether there is a queue whose depth is not known.
    pub fn lacks(&self) -> bool {
        let handlers = self.handlers.iter().any(|queue| {
            [queue.traffic.ready, queue.traffic.consumers, queue.retry, queue.quarantine, queue.unarchived]
                .contains(&None)
        });
        handlers || self.bridges.iter().any(|traffic| [traffic.ready, traffic.consumers].contains(&None))
    }

    /// Takes from `other`, which was asked for the same queues, what is not known here.
    pub fn fill(&mut self, other: Self) {
        for (queue, other) in self.handlers.iter_mut().zip(other.handlers) {
            queue.traffic.fill(other.traffic);
            queue.retry = queue.retry.or(other.retry);
            queue.quarantine = queue.quarantine.or(other.quarantine);
            queue.unarchived = queue.unarchived.or(other.unarchived);
        }
        for (traffic, other) in self.bridges.iter_mut().zip(other.bridges) {
            traffic.fill(other);
        }
    }
}

impl Traffic {
    fn fill(&mut self, other: Self) {
        self.ready = self.ready.or(other.ready);
        self.consumers = self.consumers.or(other.consumers);
    }
}

/// What the management API says of one queue; of a new one it says little.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    messages: Option<u64>,
    messages_ready: Option<u64>,
    messages_unacknowledged: Option<u64>,
    consumers: Option<u64>,
    #[serde(default)]
    message_stats: Stats,
}

impl Listed {
    /// The first figures of a queue come seconds after it, and not all at once.
    fn is_new(&self) -> bool {
        [self.messages, self.messages_ready, self.messages_unacknowledged, self.consumers].contains(&None)
    }
}

#[derive(Debug, Default, Deserialize)]
struct Stats {
    publish_details: Option<Details>,
    ack_details: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Details {
    rate: Option<f64>,
}

const COLUMNS: [&str; 7] = [
    "name",
    "messages",
    "messages_ready",
    "messages_unacknowledged",
    "consumers",
    "message_stats.publish_details.rate",
    "message_stats.ack_details.rate",
];

/// The figures of all queues that are watched; one that is missing is a note.
///
/// # Errors
/// When the management API cannot be reached or refuses.
pub async fn by_management(
    management: &Management,
    watched: &Watched,
    notes: &mut Vec<String>,
) -> Result<Found, ManagementError> {
    let listed: Vec<Listed> = management.list(&["queues", management.vhost()], &COLUMNS).await?;
    let queues: HashMap<&str, &Listed> = listed.iter().map(|queue| (queue.name.as_str(), queue)).collect();
    Ok(Found {
        handlers: watched.handlers.iter().map(|spec| summed(spec.name, &queues, notes)).collect(),
        bridges: watched.bridges.iter().map(|spec| bridge(spec.queue, &queues, notes)).collect(),
    })
}

fn summed(handler: &str, queues: &HashMap<&str, &Listed>, notes: &mut Vec<String>) -> QueueFigures {
    let (quarantine, dead) = (topology::quarantine(handler), topology::dead(handler));
    let messages = |queue: &str| queues.get(queue).and_then(|queue| queue.messages);
    // A delay that was changed leaves its queue behind until it is empty: by the name, not by the configuration.
    let retry = || queues.iter().filter(|(name, _)| is_retry(name, handler)).map(|(_, queue)| *queue);
    let others = [&quarantine, &dead].into_iter().filter_map(|queue| queues.get(queue.as_str()).copied());
    note(handler, queues, others.chain(retry()), notes);
    QueueFigures {
        traffic: traffic(handler, queues),
        retry: retry().map(|queue| queue.messages).sum(),
        quarantine: messages(&quarantine),
        unarchived: messages(&dead),
    }
}

fn bridge(queue: &str, queues: &HashMap<&str, &Listed>, notes: &mut Vec<String>) -> Traffic {
    note(queue, queues, std::iter::empty(), notes);
    traffic(queue, queues)
}

/// Says of a queue, and of `others` that belong to it, what is not known and why.
fn note<'a>(
    queue: &str,
    queues: &HashMap<&str, &Listed>,
    mut others: impl Iterator<Item = &'a Listed>,
    notes: &mut Vec<String>,
) {
    match queues.get(queue) {
        None => notes.push(missing(queue)),
        Some(listed) if listed.is_new() || others.any(Listed::is_new) => {
            notes.push(format!("{queue} is new to the management plugin: look again in a few seconds"));
        }
        Some(_) => {}
    }
}

fn traffic(queue: &str, queues: &HashMap<&str, &Listed>) -> Traffic {
    let Some(listed) = queues.get(queue) else {
        return Traffic::default();
    };
    // The broker tells no rate of a queue where nothing has happened.
    let rate = |details: &Option<Details>| {
        listed.messages_ready.map(|_| details.as_ref().and_then(|details| details.rate).unwrap_or_default())
    };
    Traffic {
        ready: listed.messages_ready,
        unacked: listed.messages_unacknowledged,
        consumers: listed.consumers,
        in_per_second: rate(&listed.message_stats.publish_details),
        out_per_second: rate(&listed.message_stats.ack_details),
    }
}

/// Whether `queue` is one of the handler's retry queues, of whatever delay.
pub fn is_retry(queue: &str, handler: &str) -> bool {
    queue
        .strip_prefix(handler)
        .and_then(|rest| rest.strip_prefix(".retry."))
        .is_some_and(|delay| !delay.is_empty() && delay.bytes().all(|byte| byte.is_ascii_digit()))
}

fn missing(queue: &str) -> String {
    format!("the queue {queue} is missing: run 'orrery migrate'")
}

/// What passive declares tell; a queue that is missing is a note. The connection is kept for the next time.
///
/// # Errors
/// When the broker is away.
pub async fn by_declare(
    bus: &Bus,
    connection: &mut Option<Connection>,
    watched: &Watched,
    notes: &mut Vec<String>,
) -> Result<Found, BusError> {
    let open = match connection.take().filter(|connection| connection.status().connected()) {
        Some(open) => open,
        None => bus.connect("console").await?,
    };
    let waiting =
        async |queue: String| Ok::<_, BusError>(depth(bus, &open, &queue).await?.map(|(ready, _)| ready));
    let mut found = Found::default();
    for spec in &watched.handlers {
        let mut retry = Some(0);
        for delay in spec.delays() {
            retry =
                retry.zip(waiting(topology::retry(spec.name, delay)).await?).map(|(sum, ready)| sum + ready);
        }
        found.handlers.push(QueueFigures {
            traffic: declared(spec.name, depth(bus, &open, spec.name).await?, notes),
            retry,
            quarantine: waiting(topology::quarantine(spec.name)).await?,
            unarchived: waiting(topology::dead(spec.name)).await?,
        });
    }
    for spec in &watched.bridges {
        found.bridges.push(declared(spec.queue, depth(bus, &open, spec.queue).await?, notes));
    }
    *connection = Some(open);
    Ok(found)
}

fn declared(queue: &str, depth: Option<(u64, u64)>, notes: &mut Vec<String>) -> Traffic {
    if depth.is_none() {
        notes.push(missing(queue));
    }
    let (ready, consumers) = depth.unzip();
    Traffic { ready, consumers, ..Traffic::default() }
}

/// Ready messages and consumers of a queue; `None` when it is not there.
///
/// # Errors
/// When the broker is away or does not answer in time.
pub async fn depth(bus: &Bus, connection: &Connection, queue: &str) -> Result<Option<(u64, u64)>, BusError> {
    let depth = tokio::time::timeout(bus.timeout(), declare::depth(bus, connection, queue)).await;
    let depth = depth.map_err(|_| BusError::Timeout(bus.timeout()))??;
    Ok(depth.map(|(ready, consumers)| (ready.into(), consumers.into())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn retry_queues_of_every_delay_are_summed_and_neighbours_are_not() {
        let listed: Vec<Listed> = serde_json::from_value(json!([
            {"name": "a.b", "messages": 4, "messages_ready": 3, "messages_unacknowledged": 1, "consumers": 2,
             "message_stats": {"publish_details": {"rate": 1.5}}},
            {"name": "a.b.retry.1000", "messages": 2, "messages_ready": 2, "messages_unacknowledged": 0, "consumers": 0},
            {"name": "a.b.retry.900000", "messages": 5, "messages_ready": 5, "messages_unacknowledged": 0, "consumers": 0},
            {"name": "a.b.retry.x", "messages": 100},
            {"name": "a.b.c.retry.1000", "messages": 100},
            {"name": "a.b.dead", "messages": 7, "messages_ready": 7, "messages_unacknowledged": 0, "consumers": 1},
        ]))
        .unwrap();
        let queues = listed.iter().map(|queue| (queue.name.as_str(), queue)).collect();
        let mut notes = Vec::new();
        let figures = summed("a.b", &queues, &mut notes);
        assert_eq!(
            figures,
            QueueFigures {
                traffic: Traffic {
                    ready: Some(3),
                    unacked: Some(1),
                    consumers: Some(2),
                    in_per_second: Some(1.5),
                    out_per_second: Some(0.0),
                },
                retry: Some(7),
                quarantine: None,
                unarchived: Some(7),
            }
        );
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(bridge("a", &queues, &mut notes), Traffic::default());
        assert_eq!(notes, [missing("a")]);
    }

    #[test]
    fn what_the_plugin_does_not_know_yet_the_broker_itself_tells() {
        let queue = |ready, retry| QueueFigures {
            traffic: Traffic { ready, consumers: ready, ..Traffic::default() },
            retry,
            quarantine: Some(0),
            unarchived: Some(0),
        };
        let of = |handler| Found { handlers: vec![handler], bridges: vec![Traffic::default()] };
        let mut found = of(queue(None, Some(2)));
        let mut now = of(queue(Some(3), Some(9)));
        now.bridges = vec![queue(Some(1), None).traffic];
        assert!(found.lacks() && !now.lacks());
        found.fill(now);
        assert!(!found.lacks());
        assert_eq!(found.handlers, [queue(Some(3), Some(2))]);
        assert_eq!(found.bridges, [queue(Some(1), None).traffic]);
    }

    #[test]
    fn what_the_plugin_does_not_know_yet_is_said_once_for_a_handler() {
        let listed: Vec<Listed> = serde_json::from_value(json!([
            {"name": "a", "messages": 1, "messages_ready": 1, "messages_unacknowledged": 0},
            {"name": "b", "messages": 1, "messages_ready": 1, "messages_unacknowledged": 0, "consumers": 0},
            {"name": "b.retry.1000"},
            {"name": "b.dead"},
        ]))
        .unwrap();
        let queues = listed.iter().map(|queue| (queue.name.as_str(), queue)).collect();
        let mut notes = Vec::new();
        summed("a", &queues, &mut notes);
        summed("b", &queues, &mut notes);
        let new =
            |queue: &str| format!("{queue} is new to the management plugin: look again in a few seconds");
        assert_eq!(notes, [new("a"), new("b")]);
    }
}
