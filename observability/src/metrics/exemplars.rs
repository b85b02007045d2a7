//! The trace of the last value in each bucket of a histogram, for the OpenMetrics page: from a slow request on a graph to what it did. The SDK of
//! OpenTelemetry keeps none. Only what is recorded is kept, so that every one leads to a trace.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{LazyLock, Mutex, PoisonError},
    time::SystemTime,
};

use opentelemetry::{
    KeyValue,
    trace::{SpanId, TraceId},
};

use crate::names::{Kind, Metric};

/// Series that are kept, each with one exemplar for each bucket: some 2 MiB at most. One more takes the place of the one that is not heard of for longest.
const SERIES: usize = 1024;

/// One value and its trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exemplar {
    pub trace: TraceId,
    pub span: SpanId,
    pub value: f64,
    pub time: SystemTime,
}

/// Those of one series, by bucket.
struct Series {
    buckets: Vec<Option<Exemplar>>,
    heard: SystemTime,
}

/// What is kept, by what `key` says.
#[derive(Default)]
pub(super) struct Exemplars(HashMap<String, Series>);

static KEPT: LazyLock<Mutex<Exemplars>> = LazyLock::new(Mutex::default);

/// Keeps a value of `metric` that was recorded with these labels.
pub(super) fn keep(metric: &Metric, value: f64, labels: &[KeyValue], (trace, span): (TraceId, SpanId)) {
    #[expect(clippy::disallowed_methods, reason = "when it was recorded, by the clock that traces have")]
    let time = SystemTime::now();
    let exemplar = Exemplar { trace, span, value, time };
    let labels = labels.iter().map(|label| (label.key.as_str().replace('.', "_"), label.value.to_string()));
    let key = key(&metric.prometheus(), labels);
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).keep(metric, key, exemplar);
}

/// Looks at what is kept.
pub(super) fn look<T>(look: impl FnOnce(&Exemplars) -> T) -> T {
    look(&KEPT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A series by its name and its labels, in whichever order they come.
pub(super) fn key(name: &str, labels: impl Iterator<Item = (String, String)>) -> String {
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable();
    labels.into_iter().fold(name.to_owned(), |mut key, (name, value)| {
        // A string takes all.
        let _written = write!(key, ",{name}={value:?}").is_ok();
        key
    })
}

impl Exemplars {
    fn keep(&mut self, metric: &Metric, key: String, exemplar: Exemplar) {
        let Kind::Histogram(bounds) = metric.kind else { return };
        if self.0.len() >= SERIES && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, series)| series.heard).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        let empty = || Series { buckets: vec![None; bounds.len() + 1], heard: exemplar.time };
        let series = self.0.entry(key).or_insert_with(empty);
        series.heard = exemplar.time;
        let at = bounds.partition_point(|bound| *bound < exemplar.value);
        if let Some(bucket) = series.buckets.get_mut(at) {
            *bucket = Some(exemplar);
        }
    }

    /// That of a bucket; the last bucket is the one without a bound.
    pub(super) fn of(&self, key: &str, bucket: usize) -> Option<Exemplar> {
        *self.0.get(key)?.buckets.get(bucket)?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::names;

    #[test]
    fn a_series_too_many_takes_the_place_of_the_oldest() {
        let mut kept = Exemplars::default();
        let at = |second: u64| Exemplar {
            trace: TraceId::from(u128::from(second) + 1),
            span: SpanId::from(1_u64),
            value: 0.004,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        };
        let many = u64::try_from(SERIES).unwrap() + 10;
        for second in 0..many {
            kept.keep(&names::REQUESTS, second.to_string(), at(second));
        }
        assert_eq!(kept.0.len(), SERIES);
        assert!(kept.of("9", 0).is_none() && kept.of("10", 0).is_some());
        // A bound belongs to its own bucket, what is above all to the last.
        kept.keep(&names::REQUESTS, "10".to_owned(), Exemplar { value: 0.005, ..at(many) });
        assert_eq!(kept.of("10", 0).unwrap().trace, at(many).trace);
        kept.keep(&names::REQUESTS, "10".to_owned(), Exemplar { value: 99.0, ..at(many) });
        assert!(kept.of("10", 14).unwrap().value > 98.0);
    }
}
