//! What holds and since when, what was told of it, and what is to be told next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    readings::{Reading, Readings},
    rules::{Rule, Severity},
};
use crate::snapshot::{Finding, Level};

/// How long something that does not work has to hold: a restart is no alert.
const FINDING: Duration = Duration::from_secs(60);

/// An alert is known by its name and whose it is.
pub type Key = (String, String);

/// What is to be told of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which alert.
    pub key: Key,
    /// How urgent it is.
    pub severity: Severity,
    /// What is the matter, or was.
    pub said: String,
    /// Whether it is over.
    pub is_over: bool,
}

struct Active {
    severity: Severity,
    said: String,
    hold: Duration,
    since: Instant,
    told: Option<Instant>,
    is_over: bool,
    /// The figure that it is about; none of a finding.
    figure: Option<String>,
}

/// All alerts that hold, or whose end is still to be told.
pub struct State {
    hold_at_most: Duration,
    repeat: Duration,
    active: BTreeMap<Key, Active>,
}

impl State {
    /// Nothing holds yet.
    pub fn new(hold_at_most: Duration, repeat: Duration) -> Self {
        Self { hold_at_most, repeat, active: BTreeMap::new() }
    }

    /// Takes in what was seen. What a figure that is not known said last still holds.
    pub fn update(&mut self, rules: &[Rule], readings: &Readings, findings: &[Finding], now: Instant) {
        let mut seen = BTreeSet::new();
        for rule in rules {
            for reading in readings.all.iter().filter(|reading| reading.figure == rule.figure) {
                if let Some(said) = rule.says(reading) {
                    let key = (rule.name.clone(), whose(reading));
                    seen.insert(key.clone());
                    self.holds(key, (rule.severity, rule.hold), said, Some(&rule.figure), now);
                }
            }
        }
        for finding in findings.iter().filter(|finding| finding.level == Level::Bad) {
            let key = ("NotWell".to_owned(), finding.what.clone());
            seen.insert(key.clone());
            let said = format!("{}: {}", finding.what, finding.todo);
            self.holds(key, (Severity::Page, FINDING), said, None, now);
        }
        self.active.retain(|key, active| {
            let is_known = active.figure.as_deref().is_none_or(|figure| readings.known.contains(figure));
            active.is_over |= is_known && !seen.contains(key);
            // What nobody heard of is over without a word.
            !active.is_over || active.told.is_some()
        });
    }

    fn holds(
        &mut self,
        key: Key,
        (severity, hold): (Severity, Duration),
        said: String,
        figure: Option<&String>,
        now: Instant,
    ) {
        let hold = hold.min(self.hold_at_most);
        let active = self.active.entry(key).or_insert_with(|| Active {
            severity,
            said: String::new(),
            hold,
            since: now,
            told: None,
            is_over: false,
            figure: figure.cloned(),
        });
        active.said = said;
        active.is_over = false;
    }

    /// What is to be told now, the most urgent first.
    pub fn due(&self, now: Instant) -> Vec<Note> {
        let due = self.active.iter().filter(|(_, active)| match active.told {
            _ if active.is_over => true,
            None => now.duration_since(active.since) >= active.hold,
            Some(told) => now.duration_since(told) >= self.repeat,
        });
        let note = |(key, active): (&Key, &Active)| Note {
            key: key.clone(),
            severity: active.severity,
            said: active.said.clone(),
            is_over: active.is_over,
        };
        let mut notes: Vec<_> = due.map(note).collect();
        notes.sort_by_key(|note| (note.is_over, std::cmp::Reverse(note.severity)));
        notes
    }

    /// They were told.
    pub fn told(&mut self, notes: &[Note], now: Instant) {
        for note in notes {
            if note.is_over {
                self.active.remove(&note.key);
            } else if let Some(active) = self.active.get_mut(&note.key) {
                active.told = Some(now);
            }
        }
    }
}

fn whose(reading: &Reading) -> String {
    let values: Vec<_> = reading.labels.values().map(String::as_str).collect();
    values.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::rules;

    const MINUTE: Duration = Duration::from_secs(60);

    fn letters(count: f64) -> Readings {
        let mut readings = Readings::default();
        readings.add("dead_letters", ["handler"], [(["maily.email".to_owned()], Some(count))]);
        readings.add("outbox_age", ["producer"], [(["autha".to_owned()], Some(count * 400.0))]);
        readings
    }

    fn names(notes: &[Note]) -> Vec<(&str, bool)> {
        notes.iter().map(|note| (note.key.0.as_str(), note.is_over)).collect()
    }

    #[test]
    fn what_holds_for_its_time_is_told_once_and_again_when_it_is_over() {
        let rules = rules::read().unwrap();
        let mut state = State::new(60 * MINUTE, 24 * 60 * MINUTE);
        let mut now = Instant::now();
        state.update(&rules, &letters(1.0), &[], now);
        let due = state.due(now);
        // The lag of the outbox has to hold for five minutes.
        assert_eq!(names(&due), [("OrreryDeadLetters", false)]);
        state.told(&due, now);
        assert!(state.due(now).is_empty());
        now += 6 * MINUTE;
        state.update(&rules, &letters(1.0), &[], now);
        let due = state.due(now);
        assert_eq!(names(&due), [("OrreryOutboxLag", false)]);
        state.told(&due, now);
        // Nothing is over because it is not known.
        state.update(&rules, &Readings::default(), &[], now);
        assert!(state.due(now).is_empty());
        state.update(&rules, &letters(0.0), &[], now);
        let due = state.due(now);
        assert_eq!(names(&due), [("OrreryOutboxLag", true), ("OrreryDeadLetters", true)]);
        state.told(&due, now);
        assert!(state.due(now).is_empty() && state.active.is_empty());
    }

    #[test]
    fn what_was_over_before_its_time_is_never_told_and_what_goes_on_is_told_again() {
        let rules = rules::read().unwrap();
        let mut state = State::new(60 * MINUTE, 60 * MINUTE);
        let mut now = Instant::now();
        let finding = Finding {
            level: Level::Bad,
            what: "PostgreSQL does not answer".to_owned(),
            todo: "look at database.url".to_owned(),
            href: "/start",
        };
        state.update(&rules, &Readings::default(), std::slice::from_ref(&finding), now);
        assert!(state.due(now).is_empty());
        state.update(&rules, &Readings::default(), &[], now);
        assert!(state.active.is_empty());
        state.update(&rules, &Readings::default(), std::slice::from_ref(&finding), now);
        now += MINUTE;
        let due = state.due(now);
        assert_eq!(due.len(), 1);
        state.told(&due, now);
        now += 59 * MINUTE;
        assert!(state.due(now).is_empty());
        now += MINUTE;
        assert_eq!(state.due(now).len(), 1);
    }
}
