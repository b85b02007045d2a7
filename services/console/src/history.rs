//! The last hour of every queue, a point a minute, in memory: what sparklines are drawn of. A console that starts anew begins anew.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

/// Points of a line, one a minute.
const POINTS: usize = 60;
/// The width and height that lines are drawn in.
const WIDTH: f64 = 118.0;
const HEIGHT: f64 = 22.0;

/// A queue in one minute; the largest of what was seen in it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Messages that waited.
    pub ready: Option<f64>,
    /// Messages that came in, a second.
    pub incoming: Option<f64>,
    /// Messages that were done with, a second.
    pub outgoing: Option<f64>,
}

struct Series {
    /// The minute of the last point.
    minute: i64,
    points: VecDeque<Point>,
    /// Since when it was never seen empty.
    waiting_since: Option<DateTime<Utc>>,
}

/// All queues' hours.
#[derive(Default)]
pub struct History(BTreeMap<String, Series>);

impl History {
    /// Adds what was seen of a queue.
    pub fn record(&mut self, queue: &str, now: DateTime<Utc>, seen: Point) {
        let minute = now.timestamp().div_euclid(60);
        let series = self.0.entry(queue.to_owned()).or_insert_with(|| Series {
            minute: minute - 1,
            points: VecDeque::with_capacity(POINTS),
            waiting_since: None,
        });
        // A minute in which nobody looked is a gap; a clock that was set back adds to the last point.
        let passed = usize::try_from(minute - series.minute).unwrap_or_default().min(POINTS);
        for _ in 0..passed {
            if series.points.len() == POINTS {
                series.points.pop_front();
            }
            series.points.push_back(Point::default());
        }
        series.minute = series.minute.max(minute);
        if let Some(last) = series.points.back_mut() {
            last.ready = larger(last.ready, seen.ready);
            last.incoming = larger(last.incoming, seen.incoming);
            last.outgoing = larger(last.outgoing, seen.outgoing);
        }
        match seen.ready {
            Some(0.0) => series.waiting_since = None,
            Some(_) => series.waiting_since = series.waiting_since.or(Some(now)),
            None => {}
        }
    }

    /// Forgets queues that are not among `known`.
    pub fn keep(&mut self, known: &[&str]) {
        self.0.retain(|queue, _| known.contains(&queue.as_str()));
    }

    /// Since when the queue was never seen empty: its oldest message is no older, unless it was there when the console started.
    pub fn waiting_since(&self, queue: &str) -> Option<DateTime<Utc>> {
        self.0.get(queue)?.waiting_since
    }

    /// A line of the hour, as the points of an SVG polyline, and its highest value.
    pub fn line(&self, queue: &str, pick: fn(&Point) -> Option<f64>) -> (String, f64) {
        let Some(series) = self.0.get(queue) else { return (String::new(), 0.0) };
        let peak = series.points.iter().filter_map(pick).fold(0.0, f64::max);
        let step = WIDTH / f64::from(u32::try_from(POINTS - 1).unwrap_or(1));
        let missing = POINTS - series.points.len();
        let points: Vec<String> = series
            .points
            .iter()
            .enumerate()
            .filter_map(|(n, point)| {
                let value = pick(point)?;
                let x = f64::from(u32::try_from(missing + n).unwrap_or_default()) * step;
                let share = if peak > 0.0 { value / peak } else { 0.0 };
                Some(format!("{:.0},{:.1}", x + 1.0, HEIGHT + 1.0 - share * HEIGHT))
            })
            .collect();
        (points.join(" "), peak)
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn seen(ready: f64) -> Point {
        Point { ready: Some(ready), ..Point::default() }
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut history = History::default();
        let start = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        for n in 0..600 {
            history.record("a", start + TimeDelta::seconds(n * 15), seen(1.0));
        }
        let (line, peak) = history.line("a", |point| point.ready);
        assert_eq!(line.split(' ').count(), POINTS);
        assert!((peak - 1.0).abs() < f64::EPSILON);
        history.record("a", start + TimeDelta::days(2), seen(3.0));
        assert_eq!(history.line("a", |point| point.ready).0.split(' ').count(), 1, "a gap is no line");
    }

    #[test]
    fn a_queue_waits_since_it_was_last_seen_empty() {
        let mut history = History::default();
        let at = |n: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(n);
        history.record("a", at(0), seen(0.0));
        history.record("a", at(5), seen(2.0));
        history.record("a", at(10), seen(1.0));
        history.record("a", at(15), Point::default());
        assert_eq!(history.waiting_since("a"), Some(at(5)));
        history.record("a", at(20), seen(0.0));
        assert_eq!(history.waiting_since("a"), None);
    }
}
