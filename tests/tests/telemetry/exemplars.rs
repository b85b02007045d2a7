//! Who asks `/metrics` for OpenMetrics is led from a bucket of a histogram to a trace that is recorded.

use anyhow::{Result, ensure};
use orrery_tests::eventually;

use super::{
    LONG, page, page_as, sending,
    sink::Sink,
    tree::{TRACE, flow},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// What a request, its messages and their work are measured by.
const HISTOGRAMS: [&str; 7] = [
    "http_server_request_duration_seconds",
    "orrery_autha_password_duration_seconds",
    "orrery_outbox_lag_seconds",
    "orrery_bus_handling_seconds",
    "orrery_bus_event_age_seconds",
    "orrery_mail_duration_seconds",
    "orrery_image_duration_seconds",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_leads_to_a_trace_that_is_recorded() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_MAILY__RETRY_DELAY", "1s").start().await?;
    let service = world.spawn(&[]).await?;
    flow(&world, "01").await?;
    let exemplar = format!(" # {{trace_id=\"{TRACE}\",span_id=\"");
    let mut missing = Vec::new();
    let all = eventually(LONG, "an exemplar of every histogram", async || {
        let page = page_as(&service, OPEN_METRICS).await.ok()?;
        missing = HISTOGRAMS.into_iter().collect();
        missing.retain(|name| {
            let bucket = format!("{name}_bucket{{");
            !page.lines().any(|line| line.starts_with(&bucket) && line.contains(&exemplar))
        });
        missing.is_empty().then_some(page)
    });
    let all = all.await;
    ensure!(all.is_ok(), "these have none: {missing:?}");
    ensure!(all?.ends_with("\n# EOF\n"), "the page has no end");
    ensure!(!page(&service).await?.contains(" # {"), "Prometheus' text has no exemplars");
    // The span that is named is sent.
    let spans = sink.spans();
    let page = page_as(&service, OPEN_METRICS).await?;
    let ids: Vec<_> = page.lines().filter_map(|line| line.split_once(&exemplar)?.1.get(..16)).collect();
    let known = ids.iter().filter(|id| spans.iter().any(|span| span.id == **id)).count();
    ensure!(known > 0, "none of {ids:?} was sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_recorded_has_no_exemplar() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http")
        .env("ORRERY_MAILY__RETRY_DELAY", "1s")
        .env("ORRERY_TELEMETRY__SAMPLING", "0.0")
        .start()
        .await?;
    let service = world.spawn(&[]).await?;
    flow(&world, "01").await?;
    let page = page_as(&service, OPEN_METRICS).await?;
    ensure!(page.contains("orrery_bus_handling_seconds_bucket{"), "nothing was measured");
    ensure!(!page.contains("trace_id"), "an exemplar leads nowhere");
    Ok(())
}
