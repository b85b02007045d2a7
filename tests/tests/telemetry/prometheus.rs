//! Debian's Prometheus reads `/metrics`, asks for OpenMetrics as it does by itself, knows every metric by the name that the documentation tells, and keeps
//! the exemplars.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use orrery_observability::names::{self, Kind, Metric};
use orrery_tests::{eventually, ports::Port, process::Process, programs};
use serde_json::Value;

use super::{
    LONG, page, sending,
    sink::Sink,
    tree::{TRACE, flow},
};

/// In OpenMetrics a counter's metadata is that of its name without its ending.
fn family(metric: &Metric) -> String {
    let name = metric.prometheus();
    name.strip_suffix("_total").map_or(name.clone(), str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_every_metric_that_is_shown() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_MAILY__RETRY_DELAY", "1s").start().await?;
    let service = world.spawn(&[]).await?;
    flow(&world, "01").await?;

    let (folder, port) = (tempfile::tempdir()?, Port::reserve()?);
    let target = service.internal_url();
    let target = target.trim_start_matches("http://");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: orrery\n  static_configs: [ {{ targets: ['{target}'] }} ]\n"
    );
    std::fs::write(folder.path().join("prometheus.yaml"), config)?;
    let (file, data, listen) = (
        format!("--config.file={}", folder.path().join("prometheus.yaml").display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address={}", port.address()),
    );
    let log = folder.path().join("prometheus.log");
    let program = programs::find("prometheus")
        .context("prometheus is missing: tests/telemetry/tools puts it where ./dev test finds it")?;
    let arguments = [file.as_str(), &data, &listen, "--enable-feature=exemplar-storage"];
    let _prometheus = Process::spawn(&program, &arguments, &BTreeMap::new(), folder.path(), &log)?;
    let http = reqwest::Client::new();
    let ask = async |path: &str| -> Option<Value> {
        let answer = http.get(format!("http://{}{path}", port.address())).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    };
    // What is shown first after a scrape comes with the next one.
    let mut shown = Vec::new();
    let complete = eventually(LONG, "a scrape of every metric that is shown", async || {
        let page = page(&service).await.ok()?;
        shown = names::ALL
            .iter()
            .filter(|metric| page.contains(&format!("# TYPE {} ", metric.prometheus())))
            .collect();
        let known = ask("/api/v1/metadata").await?;
        let is_complete = shown.iter().all(|metric| known["data"].get(family(metric)).is_some());
        (is_complete && !shown.is_empty()).then_some(known)
    });
    let known = complete.await?;
    for metric in &shown {
        let name = family(metric);
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        ensure!(known["data"][&name][0]["type"] == kind, "{name}: {}", known["data"][&name]);
    }
    let seen = shown.len();
    ensure!(seen > 25, "only {seen} metrics are shown");
    let up = eventually(Duration::from_secs(10), "what waits in the outbox", async || {
        let answer = ask("/api/v1/query?query=sum(orrery_outbox_pending)").await?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    ensure!(up.await? == "0");
    let path = "/api/v1/query_exemplars?query=orrery_bus_handling_seconds_bucket&start=0&end=9999999999";
    eventually(LONG, "an exemplar of a handled message", async || {
        let answer = ask(path).await?;
        let of = answer["data"].as_array()?.iter().filter_map(|series| series["exemplars"].as_array());
        of.flatten().any(|exemplar| exemplar["labels"]["trace_id"] == TRACE).then_some(())
    })
    .await?;
    Ok(())
}
