//! The rules: the alerts of `observability/alerts.toml` that compare a figure with a limit. Those that have an expression of Prometheus are Prometheus' alone.

use std::{collections::BTreeMap, time::Duration};

use orrery_observability::ALERTS;
use serde::Deserialize;

use super::readings::Reading;

/// Compiled in, so only a change of the definitions can bring it.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// They have no such form.
    #[error("observability/alerts.toml cannot be read")]
    Form(#[from] toml::de::Error),
    /// A figure is not defined, or there is no limit.
    #[error("observability/alerts.toml: {0} has no figure with a limit")]
    Limit(String),
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For machines.
    None,
    /// It waits for the morning.
    Ticket,
    /// It wakes somebody.
    Page,
}

#[derive(Deserialize)]
struct Definitions {
    figures: BTreeMap<String, Figure>,
    alerts: Vec<Definition>,
}

#[derive(Deserialize)]
struct Figure {
    unit: String,
}

#[derive(Deserialize)]
struct Definition {
    name: String,
    severity: Severity,
    figure: Option<String>,
    above: Option<f64>,
    below: Option<f64>,
    #[serde(default, rename = "for", with = "humantime_serde")]
    hold: Duration,
    summary: String,
}

enum Limit {
    Above(f64),
    Below(f64),
}

/// A figure with its limit.
pub struct Rule {
    /// The alert's name, and that of its runbook.
    pub name: String,
    /// How urgent it is.
    pub severity: Severity,
    /// How long it has to hold.
    pub hold: Duration,
    /// The figure.
    pub figure: String,
    limit: Limit,
    unit: String,
    summary: String,
}

/// All rules.
///
/// # Errors
/// When the definitions cannot be read.
pub fn read() -> Result<Vec<Rule>, RulesError> {
    let Definitions { figures, alerts } = toml::from_str(ALERTS)?;
    let mut rules = Vec::new();
    for alert in alerts {
        let Definition { name, severity, figure, above, below, hold, summary } = alert;
        let Some(figure) = figure else { continue };
        let limit = match (above, below) {
            (Some(above), None) => Limit::Above(above),
            (None, Some(below)) => Limit::Below(below),
            _ => return Err(RulesError::Limit(name)),
        };
        let Some(unit) = figures.get(&figure).map(|figure| figure.unit.clone()) else {
            return Err(RulesError::Limit(name));
        };
        rules.push(Rule { name, severity, hold, figure, limit, unit, summary });
    }
    Ok(rules)
}

impl Rule {
    /// What is to be said of a number of its figure; nothing while that is within the limit.
    pub fn says(&self, reading: &Reading) -> Option<String> {
        let holds = match self.limit {
            Limit::Above(limit) => reading.value > limit,
            Limit::Below(limit) => reading.value < limit,
        };
        holds.then(|| {
            let mut said = self.summary.replace("{value}", &written(reading.value, &self.unit));
            for (label, value) in &reading.labels {
                said = said.replace(&format!("{{{label}}}"), value);
            }
            said
        })
    }
}

fn written(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => format!("{:.0} %", value * 100.0),
        _ if value.fract() == 0.0 || value.abs() >= 10.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(figure: &'static str, labels: &[(&'static str, &str)], value: f64) -> Reading {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        Reading { figure, labels, value }
    }

    #[test]
    fn every_figure_of_the_definitions_is_read_here() {
        let read = read().unwrap();
        let names: std::collections::BTreeSet<_> = read.iter().map(|rule| rule.figure.as_str()).collect();
        let here = [
            "broker_disk",
            "certificate_days",
            "dead_letters",
            "disk_free",
            "outbox_age",
            "outbox_failed",
            "outbox_refused",
            "outbox_unrouted",
            "queue_ready",
        ];
        assert!(names.iter().all(|name| here.contains(name)), "{names:?} has more than {here:?}");
        assert!(read.len() >= 9, "{}", read.len());
    }

    #[test]
    fn a_limit_is_passed_on_its_side_and_said_with_numbers_and_labels() {
        let read = read().unwrap();
        let rule = |name: &str| read.iter().find(|rule| rule.name == name).unwrap();
        let letters = rule("OrreryDeadLetters");
        assert_eq!(letters.says(&reading("dead_letters", &[("handler", "maily.email")], 0.0)), None);
        let said = letters.says(&reading("dead_letters", &[("handler", "maily.email")], 3.0)).unwrap();
        assert_eq!(said, "3 dead letters of maily.email wait for a decision");
        let place = [("instance", "this machine"), ("mountpoint", "/")];
        let disk = rule("DiskFills");
        assert_eq!(disk.says(&reading("disk_free", &place, 0.25)), None);
        assert_eq!(
            disk.says(&reading("disk_free", &place, 0.12)).unwrap(),
            "12 % of / on this machine is free"
        );
    }

    #[test]
    fn no_summary_keeps_a_label_that_no_reading_has() {
        let labels =
            [("handler", "h"), ("producer", "p"), ("queue", "q"), ("instance", "i"), ("mountpoint", "m")];
        for rule in read().unwrap() {
            let value = match rule.limit {
                Limit::Above(limit) => limit + 1.0,
                Limit::Below(limit) => limit / 2.0,
            };
            let said = rule.says(&reading("x", &labels, value)).unwrap();
            assert!(!said.contains('{'), "{}: {said}", rule.name);
        }
    }
}
