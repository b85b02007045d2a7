//! Every metric is on the page, in both formats.

use std::sync::Once;

use super::*;

/// Records each metric of `names`, once for all tests of the process.
fn record_all() {
    static RECORDED: Once = Once::new();
    RECORDED.call_once(record_each);
}

fn record_each() {
    request("autha", "GET", Some("/users/{name}"), 200, Duration::from_millis(3));
    request("gateway", "BREW", None, 418, Duration::from_millis(3));
    limited("read");
    shed("process");
    cache_lookup("hit");
    observe_cache(|| 5);
    observe_certificates(|| vec![("edge", 3600.0)]);
    throttled();
    password("hash", Duration::from_millis(3));
    outbox(&OutboxFigures { producer: "autha", pending: 3, oldest: 1.5, ..OutboxFigures::default() });
    outbox_lag("autha", Duration::from_millis(3), None);
    relayed("autha", "sent", 2);
    delivered("maily.email", "done", Duration::from_millis(3));
    event_age("maily.email", Duration::from_millis(3));
    quarantined("maily.email", 1);
    dead_letter("maily.email");
    dead_letters_waiting("maily.email", 4);
    doubt("maily.email");
    mail("sent", Some(Duration::from_millis(3)));
    image("optimized", Duration::from_millis(3));
    image_bytes("original", 7);
    discovery_frame("nothing that is known");
    discovery_closed("idle");
    discovery_messages("kept", 2);
    observe_discovery(|| (3, 1));
    pushed("taken", 1);
    push_delay(Duration::from_millis(3));
    endpoints("active", 2);
    endpoints_not_taken("retry", 1);
    observe_actors(|| {
        vec![ActorFigures {
            name: "relay".to_owned(),
            running: true,
            restarts: 2,
            waiting: 5,
            at_work: 3,
            capacity: 64,
            concurrency: 4,
            refused: 9,
            failures: 7,
        }]
    });
    for pool in ["autha", "maily"] {
        observe_pool(pool, || Some(PoolFigures { size: 3, idle: 1, max: 8, waiting: 2 }));
    }
    pool_wait("autha", Duration::from_millis(3), false);
    exported("traces", 1);
    dropped("logs", 1);
    export_failed("metrics");
}

#[test]
fn the_page_shows_every_metric_with_its_unit_and_its_labels_alone() {
    record_all();
    let page = page(Format::Text).unwrap();
    for metric in names::ALL {
        let name = metric.prometheus();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} ({kind}) is not in {page}");
        let lines = page.lines().filter(|line| {
            line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                || line.starts_with(&format!("{name}_bucket"))
        });
        let mut known: Vec<_> = metric.labels.iter().map(|label| label.name.replace('.', "_")).collect();
        known.extend(["le", "otel_scope_name"].map(str::to_owned));
        let mut lines = lines.peekable();
        assert!(lines.peek().is_some(), "{name} has no value in {page}");
        for line in lines {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            for label in labels.map(|(labels, _)| labels).unwrap_or_default().split("\",") {
                let label = label.split_once('=').map(|(label, _)| label).unwrap_or_default();
                assert!(label.is_empty() || known.iter().any(|known| known == label), "{label} in {line}");
            }
        }
    }
    for (name, label, value) in [
        ("orrery_bus_deliveries_total", "outcome=\"done\"", "1"),
        ("orrery_bus_handling_seconds_bucket", "le=\"0.005\"", "1"),
        ("orrery_actor_restarts_total", "actor=\"relay\"", "2"),
        ("orrery_actor_running", "actor=\"relay\"", "1"),
        ("orrery_actor_waiting", "actor=\"relay\"", "5"),
        ("orrery_actor_refused_total", "actor=\"relay\"", "9"),
        (
            "db_client_connection_count",
            "db_client_connection_pool_name=\"autha\",db_client_connection_state=\"used\"",
            "2",
        ),
        (
            "db_client_connection_count",
            "db_client_connection_pool_name=\"maily\",db_client_connection_state=\"idle\"",
            "1",
        ),
        ("http_server_request_duration_seconds_count", "http_request_method=\"_OTHER\"", "1"),
        ("orrery_outbox_oldest_seconds", "producer=\"autha\"", "1.5"),
    ] {
        let shown =
            page.lines().any(|line| line.starts_with(name) && line.contains(label) && line.ends_with(value));
        assert!(shown, "{name} with {label} is not {value} in {page}");
    }
}

#[test]
fn open_metrics_shows_the_same_with_units_and_exemplars() {
    record_all();
    let (trace, span) = (TraceId::from(0xabc_u128), SpanId::from(0xdef_u64));
    let labels = [of(names::HANDLER, "spinoza.images")];
    let took = Duration::from_millis(30);
    record_of(&HANDLING, &names::HANDLING, took, &labels, Some((trace, span)));
    let page = page(Format::OpenMetrics).unwrap();
    assert!(page.ends_with("\n# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
    for metric in names::ALL {
        let name = metric.prometheus();
        let (family, kind) = match metric.kind {
            Kind::Counter => (name.strip_suffix("_total").unwrap(), "counter"),
            Kind::Gauge => (name.as_str(), "gauge"),
            Kind::Histogram(_) => (name.as_str(), "histogram"),
        };
        assert!(page.contains(&format!("# TYPE {family} {kind}\n")), "{family} ({kind}) is not in {page}");
        if matches!(metric.unit, "s" | "By") {
            assert!(page.contains(&format!("# UNIT {family} ")), "{family} has no unit in {page}");
        }
        let sample = match metric.kind {
            Kind::Histogram(_) => format!("\n{name}_bucket{{"),
            Kind::Counter | Kind::Gauge => format!("\n{name}"),
        };
        assert!(page.contains(&sample), "{name} has no sample in {page}");
    }
    let of_handler = |line: &&str| {
        line.starts_with("orrery_bus_handling_seconds_bucket") && line.contains("spinoza.images")
    };
    let exemplars: Vec<_> =
        page.lines().filter(of_handler).filter_map(|line| line.split_once(" # ")).collect();
    let [(bucket, exemplar)] = exemplars[..] else { panic!("one exemplar: {exemplars:?}") };
    assert!(bucket.contains("le=\"0.05\"") && bucket.ends_with(" 1"), "{bucket}");
    let (ids, value) = exemplar.split_once("} ").unwrap();
    assert_eq!(ids, format!("{{trace_id=\"{trace}\",span_id=\"{span}\""));
    assert!(value.starts_with("0.03 "), "{value}");
    // What has no trace has no exemplar.
    assert!(!page.lines().any(|line| line.contains("maily.email") && line.contains(" # {")), "{page}");
}
