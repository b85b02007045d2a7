//! Every metric: its name, kind, unit and labels. `docs/metrics.md` is made of this file (a test compares), and `metrics` records by it.
//! Labels come from closed sets, told here: never an account, an address, a partner or a message.

/// What is measured, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    /// How it counts.
    pub kind: Kind,
    /// Its unit (UCUM); what is in braces says what is counted, and Prometheus leaves it out.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it tells, in one sentence.
    pub about: &'static str,
}

/// How a metric counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is as it is now.
    Gauge,
    /// How values are distributed over these upper bounds.
    Histogram(&'static [f64]),
}

/// A label and the set that its values come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values of a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// These.
    These(&'static [&'static str]),
    /// Those that the program or its configuration names, as the words say.
    Named(&'static str),
}

const fn these(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::These(values) }
}

const fn named(name: &'static str, set: &'static str) -> Label {
    Label { name, values: Values::Named(set) }
}

/// An actor by its name.
pub const ACTOR: Label = named("actor", "the actors of `/health/actors`");
/// A handler, which is a queue, by its name.
pub const HANDLER: Label = named("handler", "the handlers of enabled services, such as `maily.email`");
/// Whose rows of the outbox.
pub const PRODUCER: Label = named("producer", "the services with an outbox, and `operator`");
/// How a delivery was answered for.
pub const DELIVERED: Label = these("outcome", &["done", "repeated", "held", "retry", "dead", "wait"]);
/// What became of a row of the outbox.
pub const RELAYED: Label = these("result", &["sent", "unrouted", "unwanted", "refused", "failed", "again"]);
/// Who answers requests.
pub const SERVICE: Label = these("service", &["gateway", "autha", "partners", "discovery", "console"]);
/// The method of a request.
pub const METHOD: Label =
    these("http.request.method", &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER"]);
/// The pattern of a route; left out where no route was found.
pub const ROUTE: Label = named("http.route", "the patterns of the tables of routes");
/// The status of an answer.
pub const STATUS: Label = named("http.response.status_code", "the status codes of HTTP");
/// The class of a limit.
pub const CLASS: Label = these("class", &["read", "write", "credentials", "upload", "unlimited"]);
/// Why a request was shed.
pub const SHED: Label = these("reason", &["connection", "process", "provider", "upstream"]);
/// What the cache had.
pub const LOOKUP: Label = these("result", &["hit", "stale", "miss", "passed"]);
/// What a listener is for.
pub const LISTENER: Label = these("listener", &["edge", "api", "forward", "reverse"]);
/// The pool of a service.
pub const POOL: Label = named("db.client.connection.pool.name", "the services with a database role");
/// What a connection does.
pub const CONNECTION: Label = these("db.client.connection.state", &["idle", "used"]);
/// What is done with a password.
pub const PASSWORD: Label = these("operation", &["hash", "verify", "score"]);
/// How work on a picture ended.
pub const PICTURE: Label = these("outcome", &["optimized", "rejected", "failed"]);
/// Which bytes of a picture.
pub const BYTES: Label = these("direction", &["original", "variants"]);
/// What became of a mail.
pub const MAIL: Label = these(
    "outcome",
    &["sent", "dropped", "suppressed", "delayed", "retried", "rejected", "doubtful", "unreachable"],
);
/// The event of a frame that a peer sent.
pub const FRAME: Label = these(
    "event",
    &[
        "phx_join",
        "phx_leave",
        "heartbeat",
        "ping",
        "offer",
        "sdp",
        "answer",
        "candidate",
        "message",
        "other",
    ],
);
/// Why the socket of a peer was closed.
pub const CLOSED: Label = these(
    "reason",
    &[
        "asked",
        "gone",
        "restart",
        "protocol",
        "unsupported",
        "invalid",
        "expired",
        "session_ended",
        "too_fast",
        "too_slow",
        "idle",
        "too_large",
        "fault",
    ],
);
/// What became of messages for peers.
pub const PEER_MESSAGE: Label = these("outcome", &["kept", "delivered", "expired", "unreadable"]);
/// How a try to deliver to an endpoint of a third party ended.
pub const PUSHED: Label = these("outcome", &["taken", "retry", "dead"]);
/// How a delivery to an endpoint of a third party ended for good.
pub const SETTLED: Label = these("outcome", &["taken", "dead"]);
/// How an endpoint of a third party is; failing is an active one that took nothing at its last try.
pub const ENDPOINT: Label = these("state", &["pending", "active", "failing", "disabled"]);
/// What an endpoint did not take: whether it is tried again.
pub const NOT_TAKEN: Label = these("state", &["retry", "dead"]);
/// A kind of telemetry.
pub const SIGNAL: Label = these("signal", &["traces", "metrics", "logs"]);

/// Upper bounds for requests (OpenTelemetry semantic conventions), in seconds.
const REQUEST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// For work in the background, in seconds.
const WORK: &[f64] = &[0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// For what may wait through an outage, in seconds.
const AGE: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];
/// How often something is tried.
const TRIES: &[f64] = &[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0];

/// Makes a constant of each metric, and the list of all.
macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:expr, $unit:literal, [$($label:expr),*], $about:literal;)*) => {
        $(
            #[doc = $about]
            pub const $id: Metric =
                Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], about: $about };
        )*
        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

metrics! {
    REQUESTS = "http.server.request.duration", Histogram(REQUEST), "s", [SERVICE, METHOD, ROUTE, STATUS],
        "How long requests took, from their head to the head of their answer";
    LIMITED = "orrery.gateway.limited", Counter, "{request}", [CLASS],
        "Requests that were refused (429) because their caller had asked too much";
    SHEDDED = "orrery.gateway.shed", Counter, "{request}", [SHED],
        "Requests that were refused (503) because too much was going on: on their connection, in the process, for their service provider, or at their upstream";
    CACHE_LOOKUPS = "orrery.gateway.cache.lookups", Counter, "{lookup}", [LOOKUP],
        "Requests that the cache was asked for, by what it had; passed is what may not be kept";
    CACHE_SIZE = "orrery.gateway.cache.size", Gauge, "By", [],
        "Bytes of the answers that the cache keeps";
    CERTIFICATE = "orrery.gateway.certificate.remaining", Gauge, "s", [LISTENER],
        "How long the certificate of a listener is still valid; of several the one that ends first";
    THROTTLED = "orrery.autha.throttled", Counter, "{request}", [],
        "Requests that were refused (429) because credentials had been tried too often";
    PASSWORDS = "orrery.autha.password.duration", Histogram(WORK), "s", [PASSWORD],
        "How long passwords were waited for and worked on; how many wait is orrery.actor.waiting of autha.passwords";

    OUTBOX_PENDING = "orrery.outbox.pending", Gauge, "{row}", [PRODUCER],
        "Rows of the outbox that are to be published, counted up to 100,000";
    OUTBOX_OLDEST = "orrery.outbox.oldest", Gauge, "s", [PRODUCER],
        "How long the oldest row of the outbox waits to be published; 0 when none does";
    OUTBOX_REFUSED = "orrery.outbox.refused", Gauge, "{row}", [PRODUCER],
        "Rows of the outbox that wait because the broker refused to keep them, such as for a full queue";
    OUTBOX_UNROUTED = "orrery.outbox.unrouted", Gauge, "{row}", [PRODUCER],
        "Rows of the outbox that a queue should be bound for and none was";
    OUTBOX_FAILED = "orrery.outbox.failed", Gauge, "{row}", [PRODUCER],
        "Rows of the outbox that can never be published";
    OUTBOX_LAG = "orrery.outbox.lag", Histogram(AGE), "s", [PRODUCER],
        "How old rows of the outbox were when the broker had confirmed them";
    OUTBOX_RELAYED = "orrery.outbox.relayed", Counter, "{row}", [PRODUCER, RELAYED],
        "Rows of the outbox that were published, by what became of them";

    DELIVERIES = "orrery.bus.deliveries", Counter, "{delivery}", [HANDLER, DELIVERED],
        "Deliveries that were answered for; retry are failed first tries, dead are dead letters";
    HANDLING = "orrery.bus.handling", Histogram(WORK), "s", [HANDLER],
        "How long a delivery was worked on";
    EVENT_AGE = "orrery.bus.event.age", Histogram(AGE), "s", [HANDLER],
        "How old events were when their effect was done";
    QUARANTINED = "orrery.bus.quarantined", Counter, "{message}", [HANDLER],
        "Messages that came back without an answer and were given to the quarantine queue";
    DEAD_LETTERS = "orrery.dead_letters.archived", Counter, "{letter}", [HANDLER],
        "Dead letters that were moved into their table";
    DEAD_LETTERS_WAITING = "orrery.dead_letters.waiting", Gauge, "{letter}", [HANDLER],
        "Dead letters in their table that wait for an operator, counted up to 100,000";
    DOUBTS = "orrery.inbox.doubts", Counter, "{delivery}", [HANDLER],
        "Tries after which nobody knows whether the effect happened";

    MAILS = "orrery.mail.outcomes", Counter, "{mail}", [MAIL],
        "Mails by what became of a try to send them";
    MAIL_SENDING = "orrery.mail.duration", Histogram(WORK), "s", [MAIL],
        "How long it took to hand a mail to a server, or to fail at it";
    IMAGES = "orrery.image.duration", Histogram(WORK), "s", [PICTURE],
        "How long a picture was worked on, with all that was fetched and stored";
    IMAGE_BYTES = "orrery.image.io", Counter, "By", [BYTES],
        "Bytes of originals that were fetched and of variants that were stored";

    DISCOVERY_SOCKETS = "orrery.discovery.sockets", Gauge, "{socket}", [],
        "Sockets of peers that are open";
    DISCOVERY_REPLICAS = "orrery.discovery.replicas", Gauge, "{replica}", [],
        "Other replicas of discovery that are heard of";
    DISCOVERY_FRAMES = "orrery.discovery.frames", Counter, "{frame}", [FRAME],
        "Frames that came from peers";
    DISCOVERY_CLOSED = "orrery.discovery.sockets.closed", Counter, "{socket}", [CLOSED],
        "Sockets of peers that were closed";
    DISCOVERY_MESSAGES = "orrery.discovery.messages", Counter, "{message}", [PEER_MESSAGE],
        "Messages for peers, by what became of them";

    PUSHES = "orrery.webhooks.deliveries", Counter, "{delivery}", [PUSHED],
        "Tries to deliver an event to an endpoint of a third party, by how they ended; dead are given up";
    PUSH_DELAY = "orrery.webhooks.delay", Histogram(AGE), "s", [],
        "How long after the commit of an event an endpoint of a third party had taken it, by the clocks of process and database";
    PUSH_ATTEMPTS = "orrery.webhooks.attempts", Histogram(TRIES), "{attempt}", [SETTLED],
        "How many tries a delivery to an endpoint of a third party had when it was taken or given up";
    ENDPOINTS = "orrery.webhooks.endpoints", Gauge, "{endpoint}", [ENDPOINT],
        "Endpoints of third parties, by their state";
    ENDPOINTS_NOT_TAKEN = "orrery.webhooks.not_taken", Gauge, "{delivery}", [NOT_TAKEN],
        "Deliveries to endpoints of third parties that are tried again, and that were given up and wait for a replay, counted up to 100,000 each";

    ACTOR_RUNNING = "orrery.actor.running", Gauge, "{actor}", [ACTOR],
        "Whether the actor is alive (1) or between two lives (0)";
    ACTOR_RESTARTS = "orrery.actor.restarts", Counter, "{restart}", [ACTOR],
        "Lives of the actor before this one";
    ACTOR_WAITING = "orrery.actor.waiting", Gauge, "{message}", [ACTOR],
        "Messages that wait in the actor's mailbox";
    ACTOR_AT_WORK = "orrery.actor.at_work", Gauge, "{message}", [ACTOR],
        "What the actor has begun and not finished";
    ACTOR_CAPACITY = "orrery.actor.capacity", Gauge, "{message}", [ACTOR],
        "How many messages may wait in the actor's mailbox";
    ACTOR_CONCURRENCY = "orrery.actor.concurrency", Gauge, "{message}", [ACTOR],
        "How many messages the actor works on at once";
    ACTOR_REFUSED = "orrery.actor.refused", Counter, "{message}", [ACTOR],
        "Messages that were refused because the actor's mailbox was full";
    ACTOR_FAILURES = "orrery.actor.failures", Counter, "{message}", [ACTOR],
        "Messages whose work panicked";

    POOL_CONNECTIONS = "db.client.connection.count", Gauge, "{connection}", [POOL, CONNECTION],
        "Connections to the database, by what they do";
    POOL_MAX = "db.client.connection.max", Gauge, "{connection}", [POOL],
        "How many connections the pool may have";
    POOL_PENDING = "db.client.connection.pending_requests", Gauge, "{request}", [POOL],
        "Who waits for a connection";
    POOL_WAIT = "db.client.connection.wait_time", Histogram(WORK), "s", [POOL],
        "How long a connection was waited for";
    POOL_TIMEOUTS = "db.client.connection.timeouts", Counter, "{timeout}", [POOL],
        "Who waited for a connection and got none";

    TELEMETRY_EXPORTED = "orrery.telemetry.exported", Counter, "{item}", [SIGNAL],
        "Spans, log records and sets of metrics that the collector took";
    TELEMETRY_DROPPED = "orrery.telemetry.dropped", Counter, "{item}", [SIGNAL],
        "Spans and log records that were dropped: their queue was full, or the collector did not take them";
    TELEMETRY_FAILURES = "orrery.telemetry.failures", Counter, "{export}", [SIGNAL],
        "Exports that the collector did not take: it was away, slow, or refused";

    PROCESS_MEMORY = "process.memory.usage", Gauge, "By", [],
        "Physical memory of the process (Linux)";
    PROCESS_FILES = "process.unix.file_descriptor.count", Gauge, "{file_descriptor}", [],
        "Open file descriptors of the process (Linux)";
    PROCESS_UPTIME = "process.uptime", Gauge, "s", [],
        "How long the process runs";
}

/// A method of a request as metrics and traces name it: one that is not known is whatever a client made up.
#[must_use]
pub fn method(given: &str) -> &'static str {
    let known = match METHOD.values {
        Values::These(known) => known.iter().copied().find(|known| *known == given),
        Values::Named(_) => None,
    };
    known.unwrap_or("_OTHER")
}

impl Metric {
    /// Its name at `/metrics`: dots are underscores, units are spelled out, counters end in `_total`.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        if !unit.is_empty() {
            name = format!("{name}_{unit}");
        }
        if self.kind == Kind::Counter { format!("{name}_total") } else { name }
    }
}

/// The table of `docs/metrics.md`.
#[must_use]
pub fn table() -> String {
    let mut table =
        "| OpenTelemetry | Prometheus | kind | unit | labels | what |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<_> =
            metric.labels.iter().map(|label| format!("`{}`", label.name.replace('.', "_"))).collect();
        table += &format!(
            "| `{}` | `{}` | {kind} | `{}` | {} | {} |\n",
            metric.name,
            metric.prometheus(),
            metric.unit,
            labels.join(", "),
            metric.about
        );
    }
    table += "\n| label | values |\n|---|---|\n";
    let mut told: Vec<Label> = Vec::new();
    for label in ALL.iter().flat_map(|metric| metric.labels) {
        if told.contains(label) {
            continue;
        }
        told.push(*label);
        let of: Vec<_> = ALL.iter().filter(|metric| metric.labels.contains(label)).collect();
        let few = if of.len() == 1 {
            of.first().map(|metric| format!(" of `{}`", metric.prometheus())).unwrap_or_default()
        } else {
            String::new()
        };
        let values = match label.values {
            Values::These(values) => {
                values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
            }
            Values::Named(set) => set.to_owned(),
        };
        table += &format!("| `{}`{few} | {values} |\n", label.name.replace('.', "_"));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::Path};

    use super::*;

    const BEGIN: &str = "<!-- made by observability/src/names.rs -->\n";
    const END: &str = "<!-- end -->\n";

    #[test]
    fn docs_list_every_metric_as_it_is() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (written, after) = rest.split_once(END).unwrap();
        if std::env::var_os("ORRERY_WRITE_DOCS").is_some() {
            std::fs::write(&file, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        } else {
            assert!(
                written == table(),
                "docs/metrics.md differs: ORRERY_WRITE_DOCS=1 cargo test -p orrery-observability writes it"
            );
        }
    }

    #[test]
    fn names_differ_and_say_their_unit_and_labels() {
        let names: HashSet<_> = ALL.iter().map(|metric| metric.name).collect();
        let shown: HashSet<_> = ALL.iter().map(Metric::prometheus).collect();
        assert!(names.len() == ALL.len() && shown.len() == ALL.len());
        for metric in ALL {
            assert!(
                matches!(metric.unit, "s" | "By") || metric.unit.starts_with('{'),
                "{}: {}",
                metric.name,
                metric.unit
            );
            for label in metric.labels {
                let forbidden = ["account", "email", "user", "address", "ip", "token", "partner"];
                assert!(
                    !label.name.split(['.', '_']).any(|word| forbidden.contains(&word)),
                    "{}",
                    metric.name
                );
            }
        }
    }
}
