//! Debian's Prometheus reads `/metrics` and knows every metric by the name that the documentation tells.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use orrery_observability::names::{self, Kind};
use orrery_tests::{Person, World, eventually, ports::Port, process::Process, programs};
use serde_json::Value;

use super::{LONG, page};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_every_metric_that_is_shown() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let person = Person::new();
    world.client()?.signed_up(&person).await?;
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), LONG).await?;

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
    let _prometheus =
        Process::spawn(&program, &[&file, &data, &listen], &BTreeMap::new(), folder.path(), &log)?;
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
        let is_complete = shown.iter().all(|metric| known["data"].get(metric.prometheus()).is_some());
        (is_complete && !shown.is_empty()).then_some(known)
    });
    let known = complete.await?;
    for metric in &shown {
        let name = metric.prometheus();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        // In Prometheus' older text format a counter's metadata is that of its whole name.
        ensure!(known["data"][&name][0]["type"] == kind, "{name}: {}", known["data"][&name]);
    }
    let seen = shown.len();
    ensure!(seen > 25, "only {seen} metrics are shown");
    let up = eventually(Duration::from_secs(10), "what waits in the outbox", async || {
        let answer = ask("/api/v1/query?query=sum(orrery_outbox_pending)").await?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    ensure!(up.await? == "0");
    Ok(())
}
