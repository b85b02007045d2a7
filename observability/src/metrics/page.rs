//! The page of all metrics: Prometheus' text, or OpenMetrics 1.0 with exemplars for who asks for it
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>).

use std::{
    fmt::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{
    Encoder, TextEncoder,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    exemplars::{self, Exemplar, Exemplars},
    shown,
};

/// In which format the page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

/// The metrics cannot be written as text.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// In Prometheus' format.
    #[error("the page of metrics: {0}")]
    Prometheus(#[from] prometheus::Error),
    /// In OpenMetrics.
    #[error("the page of metrics: {0}")]
    Written(#[from] fmt::Error),
}

impl Format {
    /// What an `Accept` asks for: OpenMetrics where it is named, and not after plain text (RFC 9110, section 12.5.1).
    #[must_use]
    pub fn asked(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let of = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                if !parts.next()?.eq_ignore_ascii_case(wanted) {
                    return None;
                }
                let quality = parts.find_map(|part| part.strip_prefix("q="));
                Some(quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0)))
            });
            of.fold(0.0, f64::max)
        };
        let wanted = quality("application/openmetrics-text");
        if wanted > 0.0 && wanted >= quality("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// The media type of the page.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics.
///
/// # Errors
/// When they cannot be written as text.
pub fn page(format: Format) -> Result<String, PageError> {
    let families = shown().registry.gather();
    match format {
        Format::Text => {
            let mut text = Vec::new();
            TextEncoder::new().encode(&families, &mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Format::OpenMetrics => {
            let mut page = String::new();
            exemplars::look(|kept| families.iter().try_for_each(|of| family(&mut page, of, kept)))?;
            page += "# EOF\n";
            Ok(page)
        }
    }
}

fn family(page: &mut String, family: &MetricFamily, kept: &Exemplars) -> fmt::Result {
    let kind = family.get_field_type();
    // A counter is named without what its one sample ends in.
    let name = match kind {
        MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
        _ => family.name(),
    };
    let told = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        // None of ours.
        MetricType::SUMMARY | MetricType::UNTYPED => return Ok(()),
    };
    writeln!(page, "# TYPE {name} {told}")?;
    if let Some(unit) = ["seconds", "bytes"].iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
        writeln!(page, "# UNIT {name} {unit}")?;
    }
    if !family.help().is_empty() {
        writeln!(page, "# HELP {name} {}", escaped(family.help()))?;
    }
    for metric in family.get_metric() {
        match kind {
            MetricType::COUNTER => {
                sample(page, &format!("{name}_total"), metric, None, metric.get_counter().get_value())?;
            }
            MetricType::HISTOGRAM => histogram(page, name, metric, kept)?,
            _ => sample(page, name, metric, None, metric.get_gauge().get_value())?,
        }
        page.push('\n');
    }
    Ok(())
}

fn histogram(page: &mut String, name: &str, metric: &Metric, kept: &Exemplars) -> fmt::Result {
    let histogram = metric.get_histogram();
    let labels = metric.get_label().iter().filter(|label| !label.name().starts_with("otel_scope_"));
    let key = exemplars::key(name, labels.map(|label| (label.name().to_owned(), label.value().to_owned())));
    let (buckets, count) = (histogram.get_bucket(), histogram.get_sample_count());
    let finite = buckets.iter().filter(|bucket| bucket.upper_bound().is_finite());
    // A bound is written as on the other page, so that a series has one name in both.
    let bounds = finite.map(|bucket| (bucket.upper_bound().to_string(), bucket.cumulative_count()));
    let bucket = format!("{name}_bucket");
    for (at, (bound, below)) in bounds.chain([("+Inf".to_owned(), count)]).enumerate() {
        sample_of_count(page, &bucket, metric, Some(&bound), below)?;
        if let Some(exemplar) = kept.of(&key, at) {
            write_exemplar(page, &exemplar)?;
        }
        page.push('\n');
    }
    sample(page, &format!("{name}_sum"), metric, None, histogram.get_sample_sum())?;
    page.push('\n');
    sample_of_count(page, &format!("{name}_count"), metric, None, count)
}

fn write_exemplar(page: &mut String, exemplar: &Exemplar) -> fmt::Result {
    let Exemplar { trace, span, value, time } = exemplar;
    write!(page, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {}", seconds(*time))
}

fn seconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:03}", since.as_secs(), since.subsec_millis())
}

fn sample(page: &mut String, name: &str, metric: &Metric, le: Option<&str>, value: f64) -> fmt::Result {
    labelled(page, name, metric.get_label(), le)?;
    match value {
        f64::INFINITY => page.write_str(" +Inf"),
        f64::NEG_INFINITY => page.write_str(" -Inf"),
        value => write!(page, " {value}"),
    }
}

fn sample_of_count(
    page: &mut String,
    name: &str,
    metric: &Metric,
    le: Option<&str>,
    count: u64,
) -> fmt::Result {
    labelled(page, name, metric.get_label(), le)?;
    write!(page, " {count}")
}

fn labelled(page: &mut String, name: &str, labels: &[LabelPair], le: Option<&str>) -> fmt::Result {
    page.push_str(name);
    let labels = labels.iter().map(|label| (label.name(), label.value()));
    let mut before = '{';
    for (label, value) in labels.chain(le.map(|le| ("le", le))) {
        write!(page, "{before}{label}=\"{}\"", escaped(value))?;
        before = ',';
    }
    if before == ',' {
        page.push('}');
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_open_metrics_gets_it_and_nobody_else_does() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.5", Format::Text),
            // As Prometheus 2.53 asks.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::asked(accept), format, "{accept}");
        }
    }
}
