//! What all viewers see of one look: queues with their hour, processes, and what is not well with what to do about it. How it is looked lives in `observer`.

use chrono::{DateTime, Utc};
use orrery_service::Enabled;
use serde::Serialize;

use crate::{
    figures::{Figures, OutboxFigures},
    history::{History, Point},
    processes::Process,
    text,
};

/// A row of the outbox that waits for so long is not well.
const OLD_ROW_SECONDS: f64 = 60.0;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is to be done.
    Good,
    /// Somebody should look at it.
    Warn,
    /// Something does not work.
    Bad,
}

/// Something that is not well, and what to do.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What.
    pub what: String,
    /// What to do.
    pub todo: String,
    /// The page that shows more.
    pub href: &'static str,
}

/// A queue, for a table and the picture.
#[derive(Debug, Clone, Serialize)]
pub struct QueueRow {
    /// Its name, which is its handler's.
    pub name: String,
    /// The service that reads it.
    pub service: &'static str,
    /// Whether it is a bridge's.
    pub is_bridge: bool,
    /// Messages that wait.
    pub ready: Option<u64>,
    /// Messages at work.
    pub unacked: Option<u64>,
    /// Messages in its retry queues.
    pub retry: Option<u64>,
    /// Messages in its quarantine queue.
    pub quarantine: Option<u64>,
    /// Dead letters that are not in the table yet.
    pub unarchived: Option<u64>,
    /// Dead letters.
    pub dead: Option<u64>,
    /// Effects that may have happened twice.
    pub doubts: Option<u64>,
    /// Consumers.
    pub consumers: Option<u64>,
    /// Messages that come in, a second.
    pub incoming: Option<f64>,
    /// Messages that are done with, a second.
    pub outgoing: Option<f64>,
    /// Since when it was never empty: its oldest message is no older.
    pub waiting_since: Option<DateTime<Utc>>,
    /// The same in words.
    pub waiting_for: Option<String>,
    /// The hour: what waited.
    pub ready_line: String,
    /// The most that waited.
    pub ready_peak: f64,
    /// The hour: what was done, a second.
    pub rate_line: String,
    /// The most that was done, a second.
    pub rate_peak: f64,
    /// How it is.
    pub level: Level,
}

/// The outbox of a producer.
#[derive(Debug, Clone, Serialize)]
pub struct OutboxRow {
    /// The figures.
    #[serde(flatten)]
    pub figures: OutboxFigures,
    /// How old the oldest waiting row is, in words.
    pub oldest: Option<String>,
}

/// A service of the installation.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceRow {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Processes that were seen to run it.
    pub processes: usize,
    /// How it is; none where no process that runs it is looked at.
    pub level: Option<Level>,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// When.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub took_ms: u64,
    /// How all is.
    pub level: Level,
    /// What is not well, the worst first.
    pub findings: Vec<Finding>,
    /// The services.
    pub services: Vec<ServiceRow>,
    /// The queues.
    pub queues: Vec<QueueRow>,
    /// The outbox of every producer that has something in it; none while the database is away.
    pub outbox: Option<Vec<OutboxRow>>,
    /// Dead letters in all; none while the database is away.
    pub dead: Option<u64>,
    /// What is away.
    pub away: crate::figures::Away,
    /// What is not known, or not as it should be, and why.
    pub notes: Vec<String>,
    /// The processes.
    pub processes: Vec<Process>,
}

impl Snapshot {
    /// Puts it together, and writes the queues' points into `history`.
    pub fn new(
        figures: Figures,
        processes: Vec<Process>,
        services: &[Enabled],
        history: &mut History,
        (at, took_ms): (DateTime<Utc>, u64),
    ) -> Self {
        let queues = queues(&figures, services, history, at);
        let outbox = figures.outbox.map(|rows| {
            let row = |figures: OutboxFigures| OutboxRow {
                oldest: figures.oldest_pending_seconds.map(text::age),
                figures,
            };
            rows.into_iter().map(row).collect::<Vec<_>>()
        });
        let dead = outbox.is_some().then(|| queues.iter().filter_map(|queue| queue.dead).sum());
        let services = services.iter().map(|service| of_processes(service, &processes)).collect();
        let mut snapshot = Self {
            at,
            took_ms,
            level: Level::Good,
            findings: Vec::new(),
            services,
            queues,
            outbox,
            dead,
            away: figures.away,
            notes: figures.notes,
            processes,
        };
        snapshot.findings = snapshot.find();
        snapshot.level = snapshot.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
        snapshot
    }

    fn find(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |level, href, what: String, todo: &str| {
            findings.push(Finding { level, what, todo: todo.to_owned(), href });
        };
        if let Some(why) = &self.away.database {
            add(Level::Bad, "/start", "PostgreSQL does not answer".to_owned(), why);
        }
        if let Some(why) = &self.away.broker {
            add(Level::Bad, "/start", "RabbitMQ does not answer".to_owned(), why);
        } else if let Some(why) = &self.away.management {
            add(Level::Warn, "/start", "the management plugin does not answer: no rates".to_owned(), why);
        }
        for note in self.notes.iter().filter(|note| note.contains("is missing")) {
            add(Level::Bad, "/queues", note.clone(), "Without it messages wait where they are.");
        }
        for queue in &self.queues {
            let (name, waits) = (&queue.name, queue.ready.unwrap_or_default());
            if waits > 0 && queue.consumers == Some(0) {
                let todo =
                    format!("Start {}, or see among the actors why its consumer waits.", queue.service);
                add(
                    Level::Bad,
                    "/queues",
                    format!("{} in {name} and nobody reads it", waiting(waits)),
                    &todo,
                );
            }
            if let Some(n) = queue.quarantine.filter(|n| *n > 0) {
                let what = format!("{} in the quarantine queue of {name}", text::count(n, "message"));
                add(
                    Level::Warn,
                    "/queues",
                    what,
                    "They ended a process; each is tried alone, then it is a dead letter.",
                );
            }
        }
        if let Some(dead) = self.dead.filter(|dead| *dead > 0) {
            let what = text::count(dead, "dead letter");
            add(
                Level::Warn,
                "/dead",
                what,
                "Read why they failed, mend that, and have them tried again or drop them.",
            );
        }
        for row in self.outbox.iter().flatten() {
            let OutboxFigures { producer, unrouted, failed, oldest_pending_seconds, .. } = &row.figures;
            if *unrouted > 0 {
                let what = format!("{} of {producer} found no queue", text::count(*unrouted, "event"));
                add(Level::Warn, "/outbox", what, "Run 'orrery migrate', then publish them again.");
            }
            if *failed > 0 {
                let what = format!("{} of {producer} cannot be published", text::count(*failed, "event"));
                add(Level::Warn, "/outbox", what, "Read what kept them, then publish them again.");
            }
            if let Some(oldest) = oldest_pending_seconds.filter(|seconds| *seconds > OLD_ROW_SECONDS) {
                let what = format!("events of {producer} wait for {} in the outbox", text::age(oldest));
                add(
                    Level::Warn,
                    "/outbox",
                    what,
                    "Their relay runs in the service's process: is that up, and RabbitMQ?",
                );
            }
        }
        for process in &self.processes {
            let name = process.name();
            match process.status.as_str() {
                "unready" | "unreachable" => {
                    let why: Vec<_> =
                        process.causes.iter().map(|(what, why)| format!("{what}: {why}")).collect();
                    add(Level::Bad, "/replicas", format!("{name} is {}", process.status), &why.join("; "));
                }
                "degraded" => {
                    let why: Vec<_> =
                        process.causes.iter().map(|(what, why)| format!("{what}: {why}")).collect();
                    add(Level::Warn, "/replicas", format!("{name} works around something"), &why.join("; "));
                }
                _ => {}
            }
            for actor in process.actors.iter().filter(|actor| actor.state == "waiting") {
                let what = format!("{} of {name} does not run", actor.name);
                add(
                    Level::Warn,
                    "/actors",
                    what,
                    actor.last_error.as_deref().unwrap_or("It is started again."),
                );
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        findings
    }
}

impl Process {
    /// What an operator calls it.
    pub fn name(&self) -> String {
        if self.address.is_empty() { "this process".to_owned() } else { self.address.clone() }
    }
}

fn waiting(n: u64) -> String {
    if n == 1 { "1 message waits".to_owned() } else { format!("{} messages wait", text::grouped(n)) }
}

fn of_processes(service: &Enabled, processes: &[Process]) -> ServiceRow {
    let runs: Vec<_> =
        processes.iter().filter(|process| process.services.iter().any(|name| name == service.name)).collect();
    let level = runs.iter().map(|process| match process.status.as_str() {
        "ready" => Level::Good,
        "degraded" => Level::Warn,
        _ => Level::Bad,
    });
    // One replica that works is a service that works.
    ServiceRow { name: service.name, about: service.about, processes: runs.len(), level: level.min() }
}

fn queues(
    figures: &Figures,
    services: &[Enabled],
    history: &mut History,
    at: DateTime<Utc>,
) -> Vec<QueueRow> {
    let of_handler = |name: &str| services.iter().find(|s| s.handlers.iter().any(|spec| spec.name == name));
    let of_bridge = |name: &str| services.iter().find(|s| s.bridges.iter().any(|spec| spec.queue == name));
    let handlers = figures.handlers.iter().map(|row| {
        let service = of_handler(row.handler).map_or("", |service| service.name);
        (row.handler, service, false, &row.queues.traffic, Some(&row.queues), row.dead, row.doubts)
    });
    let bridges = figures.bridges.iter().map(|row| {
        let service = of_bridge(row.queue).map_or("", |service| service.name);
        (row.queue, service, true, &row.traffic, None, row.dead, None)
    });
    let mut rows = Vec::new();
    for (name, service, is_bridge, traffic, queues, dead, doubts) in handlers.chain(bridges) {
        let float = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).map(f64::from);
        let seen = Point {
            ready: float(traffic.ready),
            incoming: traffic.in_per_second,
            outgoing: traffic.out_per_second,
        };
        history.record(name, at, seen);
        let waiting_since = history.waiting_since(name);
        let (ready_line, ready_peak) = history.line(name, |point| point.ready);
        let (rate_line, rate_peak) = history.line(name, |point| point.outgoing);
        let quarantine = queues.and_then(|queues| queues.quarantine);
        let level = match (traffic.ready, traffic.consumers) {
            (None, _) => Level::Bad,
            (Some(1..), Some(0)) => Level::Bad,
            _ if dead.unwrap_or_default() > 0 || quarantine.unwrap_or_default() > 0 => Level::Warn,
            _ => Level::Good,
        };
        rows.push(QueueRow {
            name: name.to_owned(),
            service,
            is_bridge,
            ready: traffic.ready,
            unacked: traffic.unacked,
            retry: queues.and_then(|queues| queues.retry),
            quarantine,
            unarchived: queues.and_then(|queues| queues.unarchived),
            dead,
            doubts,
            consumers: traffic.consumers,
            incoming: traffic.in_per_second,
            outgoing: traffic.out_per_second,
            waiting_for: waiting_since.map(|since| seconds_between(since, at)).map(text::age),
            waiting_since,
            ready_line,
            ready_peak,
            rate_line,
            rate_peak,
            level,
        });
    }
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    history.keep(&names);
    rows
}

/// Seconds from one moment to another.
pub fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    to.signed_duration_since(from).to_std().map(|passed| passed.as_secs_f64()).unwrap_or_default()
}
