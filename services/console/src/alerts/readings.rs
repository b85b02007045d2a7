//! Figures at one moment, by the names that `observability/alerts.toml` has for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{figures::OutboxFigures, snapshot::Snapshot};

/// One number of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The figure's name.
    pub figure: &'static str,
    /// Whose number it is, by label.
    pub labels: BTreeMap<&'static str, String>,
    /// In the figure's unit.
    pub value: f64,
}

/// All that could be read. A figure that is not known is neither good nor bad.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// The numbers.
    pub all: Vec<Reading>,
    /// The figures that were read, whether or not they have a number.
    pub known: BTreeSet<&'static str>,
}

impl Readings {
    /// Adds a figure with its numbers, each with the values of `labels`; where one of them is not known, the figure is not.
    pub fn add<const N: usize>(
        &mut self,
        figure: &'static str,
        labels: [&'static str; N],
        numbers: impl IntoIterator<Item = ([String; N], Option<f64>)>,
    ) {
        let mut found = Vec::new();
        for (values, number) in numbers {
            let Some(value) = number else { return };
            found.push(Reading { figure, labels: labels.into_iter().zip(values).collect(), value });
        }
        self.known.insert(figure);
        self.all.extend(found);
    }

    /// Adds others.
    pub fn join(&mut self, others: Self) {
        self.all.extend(others.all);
        self.known.extend(others.known);
    }
}

/// What of a producer's outbox is read.
type Figure = fn(&OutboxFigures) -> f64;

/// What the observer saw.
pub fn of(snapshot: &Snapshot) -> Readings {
    let mut readings = Readings::default();
    let queues = || snapshot.queues.iter();
    readings.add(
        "dead_letters",
        ["handler"],
        queues().map(|queue| ([queue.name.clone()], queue.dead.map(float))),
    );
    readings.add(
        "queue_ready",
        ["queue"],
        queues().map(|queue| ([queue.name.clone()], queue.ready.map(float))),
    );
    if let Some(outbox) = &snapshot.outbox {
        let figures: [(_, Figure); 4] = [
            ("outbox_age", |row| row.oldest_pending_seconds.unwrap_or_default()),
            ("outbox_refused", |row| float(row.refused)),
            ("outbox_unrouted", |row| float(row.unrouted)),
            ("outbox_failed", |row| float(row.failed)),
        ];
        for (figure, of) in figures {
            let rows = outbox.iter().map(|row| ([row.figures.producer.clone()], Some(of(&row.figures))));
            readings.add(figure, ["producer"], rows);
        }
    }
    readings
}

/// A count; one above four thousand million is as alarming as that.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
