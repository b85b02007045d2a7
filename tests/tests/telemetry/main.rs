//! Telemetry over the whole system: what a collector gets, that it gets nothing about people, and that a collector which is away, slow or
//! refuses costs nothing. The collector is rotel, which `tests/telemetry/install` fetches; behind it stands a receiver that keeps all.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod batches;
mod collector;
mod exemplars;
mod metrics;
mod private;
mod prometheus;
mod rotel;
mod sink;
mod state;
mod tree;

use std::time::Duration;

use anyhow::Result;
use orrery_tests::{World, WorldBuilder};

/// The deadline of what goes by way of the broker and the collector.
const LONG: Duration = Duration::from_secs(40);

/// The settings of processes that send everything, and soon, to `endpoint`.
fn sending(endpoint: &str, protocol: &str) -> WorldBuilder {
    World::builder()
        .env("ORRERY_TELEMETRY__ENABLED", "true")
        .env("ORRERY_TELEMETRY__ENDPOINT", endpoint)
        .env("ORRERY_TELEMETRY__PROTOCOL", protocol)
        .env("ORRERY_TELEMETRY__SAMPLING", "1.0")
        .env("ORRERY_TELEMETRY__INTERVAL", "1s")
        .env("ORRERY_TELEMETRY__TIMEOUT", "2s")
}

/// What `/metrics` of a process says.
async fn page(service: &orrery_tests::Service) -> Result<String> {
    page_as(service, "*/*").await
}

/// The same, asked for in a format.
async fn page_as(service: &orrery_tests::Service, accept: &str) -> Result<String> {
    let client = orrery_tests::Client::new(&service.internal_url())?;
    let answer = client.request(reqwest::Method::GET, "/metrics").header("accept", accept).send().await?;
    Ok(answer.text().await?)
}

/// The value of a line of a page; the sum over all lines of that name whose labels have `label`.
fn value(page: &str, name: &str, label: &str) -> f64 {
    let lines = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
