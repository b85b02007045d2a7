//! The figures of every handler, every bridge and the outbox, put together from broker and database, and their tables.
//! Where each comes from lives in `broker` and `store`.

use std::fmt;

use orrery_broker_admin::management::{Management, ManagementError};
use orrery_bus::{Bus, BusError};
use orrery_config::broker::Broker;
use orrery_store::{Pool, outbox::COUNTED};
use serde::Serialize;

use crate::{
    broker::{self, Found, QueueFigures, Traffic, Watched},
    store::{self, Counts},
    table::{Align, Table, known},
    text,
};

/// What there is to know of one handler; what is not known is `None`.
#[derive(Debug, Clone, Serialize)]
pub struct HandlerFigures {
    /// Its name.
    pub handler: &'static str,
    /// Messages in its queues.
    #[serde(flatten)]
    pub queues: QueueFigures,
    /// Dead letters in the table.
    pub dead: Option<u64>,
    /// Effects that may have happened twice.
    pub doubts: Option<u64>,
}

/// What there is to know of one bridge.
#[derive(Debug, Clone, Serialize)]
pub struct BridgeFigures {
    /// Its name.
    pub bridge: &'static str,
    /// The queue that it empties.
    pub queue: &'static str,
    /// What goes through that.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Dead letters: what it could not turn.
    pub dead: Option<u64>,
}

/// The outbox of one producer; rows are counted up to `outbox::COUNTED`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutboxFigures {
    /// Whose rows: a service's, or the operator's.
    pub producer: String,
    /// Rows that wait to be published.
    pub pending: u64,
    /// How long the oldest of them has waited.
    pub oldest_pending_seconds: Option<f64>,
    /// Those of them that the broker refused to keep so far.
    pub refused: u64,
    /// Rows that no queue is bound for.
    pub unrouted: u64,
    /// Rows that can never be published.
    pub failed: u64,
}

/// Everything at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Every handler of the enabled services.
    pub handlers: Vec<HandlerFigures>,
    /// Every bridge that is turned on.
    pub bridges: Vec<BridgeFigures>,
    /// The outbox, of every producer that has something in it.
    pub outbox: Option<Vec<OutboxFigures>>,
    /// What is not known, or not as it should be, and why.
    pub notes: Vec<String>,
    /// Whether broker and database both answered.
    pub complete: bool,
    /// What is away, and why.
    pub away: Away,
}

/// What did not answer, and why.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Away {
    /// RabbitMQ.
    pub broker: Option<String>,
    /// Its management plugin, without which rates are not known.
    pub management: Option<String>,
    /// PostgreSQL.
    pub database: Option<String>,
}

/// Looks at broker and database, again and again.
pub struct Observer {
    bus: Bus,
    management: Result<Management, ManagementError>,
    pool: Pool,
    watched: Watched,
    connection: Option<lapin::Connection>,
    away: Away,
}

impl Observer {
    /// An observer of these queues; nothing is opened yet.
    pub fn new(config: &Broker, pool: Pool, watched: Watched) -> Self {
        Self {
            bus: Bus::new(config.clone()),
            management: Management::new(config),
            pool,
            watched,
            connection: None,
            away: Away::default(),
        }
    }

    /// What can be known now. That a part is away is no error but a note.
    pub async fn look(&mut self) -> Figures {
        let mut notes = Vec::new();
        let (pool, producers) = (self.pool.clone(), self.watched.producers.clone());
        // One that hangs does not keep the other from being seen.
        let (queues, stored) = tokio::join!(self.queues(&mut notes), store::look(&pool, &producers));
        let complete = queues.is_some() && stored.is_ok();
        let mut away = std::mem::take(&mut self.away);
        away.database = stored.as_ref().err().map(ToString::to_string);
        let stored = stored
            .inspect_err(|error| {
                notes.push(format!("dead, doubts and outbox are not known: {error}, look at database.url"));
            })
            .ok();
        let known = |name: &str| self.watched.letter_names().any(|known| known == name);
        let letters = stored.iter().flat_map(|stored| &stored.letters);
        for (handler, letters) in letters.filter(|(handler, _)| !known(handler)) {
            let what = text::count(*letters, "dead letter");
            notes.push(format!("there are {what} of {handler}, a handler that no enabled service has"));
        }
        let found = queues.unwrap_or_default();
        let mut queues = found.handlers.into_iter();
        let handlers = self.watched.handlers.iter().map(|spec| HandlerFigures {
            handler: spec.name,
            queues: queues.next().unwrap_or_default(),
            dead: stored.as_ref().map(|stored| of(&stored.letters, spec.name)),
            doubts: stored.as_ref().map(|stored| of(&stored.doubts, spec.name)),
        });
        let handlers = handlers.collect();
        let mut queues = found.bridges.into_iter();
        let bridges = self.watched.bridges.iter().map(|spec| BridgeFigures {
            bridge: spec.name,
            queue: spec.queue,
            traffic: queues.next().unwrap_or_default(),
            dead: stored.as_ref().map(|stored| of(&stored.letters, spec.queue)),
        });
        let bridges = bridges.collect();
        Figures { handlers, bridges, outbox: stored.map(|stored| stored.outbox), notes, complete, away }
    }

    async fn declared(&mut self, notes: &mut Vec<String>) -> Result<Found, BusError> {
        broker::by_declare(&self.bus, &mut self.connection, &self.watched, notes).await
    }

    /// By the management API; what it does not know, or all where it is away, by what a passive declare tells.
    async fn queues(&mut self, notes: &mut Vec<String>) -> Option<Found> {
        let why = match &self.management {
            Ok(management) => match broker::by_management(management, &self.watched, notes).await {
                Ok(mut figures) => {
                    // The plugin's first figures of a queue come seconds after it; the broker has its depth at once.
                    if figures.lacks()
                        && let Ok(now) = self.declared(&mut Vec::new()).await
                    {
                        figures.fill(now);
                    }
                    return Some(figures);
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.away.management = Some(why.clone());
        match self.declared(notes).await {
            Ok(figures) => {
                notes.push(format!("unacked and rates are not known: {why}"));
                Some(figures)
            }
            Err(error) => {
                self.away.broker = Some(error.to_string());
                notes.push(format!("queues are not known: {error}, look at broker.url; {why}"));
                None
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NUMBERS: [&str; 10] = [
            "READY",
            "UNACKED",
            "RETRY",
            "QUARANTINE",
            "UNARCHIVED",
            "DEAD",
            "DOUBTS",
            "CONSUMERS",
            "IN/S",
            "OUT/S",
        ];
        let mut columns = vec![("HANDLER", Align::Left)];
        columns.extend(NUMBERS.map(|name| (name, Align::Right)));
        let mut table = Table::new(&columns);
        let rate = |rate: Option<f64>| known(rate.map(|rate| format!("{rate:.1}")));
        for HandlerFigures { handler, queues, dead, doubts } in &self.handlers {
            table.row([
                (*handler).to_owned(),
                known(queues.traffic.ready),
                known(queues.traffic.unacked),
                known(queues.retry),
                known(queues.quarantine),
                known(queues.unarchived),
                known(*dead),
                known(*doubts),
                known(queues.traffic.consumers),
                rate(queues.traffic.in_per_second),
                rate(queues.traffic.out_per_second),
            ]);
        }
        write!(f, "{table}")?;
        if !self.bridges.is_empty() {
            let mut columns = vec![("BRIDGE", Align::Left), ("QUEUE", Align::Left)];
            columns.extend(
                ["READY", "UNACKED", "DEAD", "CONSUMERS", "IN/S", "OUT/S"].map(|name| (name, Align::Right)),
            );
            let mut table = Table::new(&columns);
            for BridgeFigures { bridge, queue, traffic, dead } in &self.bridges {
                table.row([
                    (*bridge).to_owned(),
                    (*queue).to_owned(),
                    known(traffic.ready),
                    known(traffic.unacked),
                    known(*dead),
                    known(traffic.consumers),
                    rate(traffic.in_per_second),
                    rate(traffic.out_per_second),
                ]);
            }
            write!(f, "\n{table}")?;
        }
        let mut columns = vec![("OUTBOX", Align::Left)];
        columns
            .extend(["PENDING", "OLDEST", "REFUSED", "UNROUTED", "FAILED"].map(|name| (name, Align::Right)));
        let mut table = Table::new(&columns);
        for row in self.outbox.iter().flatten() {
            table.row([
                row.producer.clone(),
                counted(row.pending),
                known(row.oldest_pending_seconds.map(text::age)),
                counted(row.refused),
                counted(row.unrouted),
                counted(row.failed),
            ]);
        }
        match &self.outbox {
            Some(rows) if rows.is_empty() => writeln!(f, "\nnothing waits in the outbox")?,
            Some(_) => write!(f, "\n{table}")?,
            None => {}
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{}", text::safe(note))?;
        }
        Ok(())
    }
}

fn of(counts: &Counts, handler: &str) -> u64 {
    counts.get(handler).copied().unwrap_or_default()
}

/// Rows are not counted beyond a limit: there may be more.
fn counted(rows: u64) -> String {
    let more = u64::try_from(COUNTED).is_ok_and(|limit| rows >= limit);
    format!("{rows}{}", if more { "+" } else { "" })
}
