//! A collector that is killed, hangs or refuses costs nothing but a counter: requests go on, memory is bounded, and what is lost is counted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Service, World, eventually};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use super::{
    LONG, page,
    rotel::Rotel,
    sending,
    sink::{Answers, Sink},
    value,
};

/// Requests of one round, and how many are under way at once.
const REQUESTS: usize = 600;
const AT_ONCE: usize = 8;
/// What a hanging collector may add: far below its own timeout, far above the noise of a busy machine.
const KIND: Duration = Duration::from_millis(500);
/// What full queues may take, with the allocator's slack; less than what `MANY` spans take that nobody drops.
const MEMORY: u64 = 12 * 1024 * 1024;
/// How long a debug build beside other tests may take to tell of so many.
const TELLING: Duration = Duration::from_secs(150);
/// Spans that are lost at least.
const SOME: f64 = 0.0;
const MANY: f64 = 12_000.0;

/// Asks for a page many times and gives the median and the longest time of one answer.
async fn round(client: &Client) -> Result<(Duration, Duration)> {
    let (mut asking, mut times) = (JoinSet::new(), Vec::new());
    for number in 0..REQUESTS {
        if number >= AT_ONCE {
            times.push(asking.join_next().await.context("an answer")???);
        }
        let client = client.clone();
        asking.spawn(async move {
            let begun = Instant::now();
            client.get("/status.json").await?.expect(200)?;
            Ok::<_, anyhow::Error>(begun.elapsed())
        });
    }
    while let Some(time) = asking.join_next().await {
        times.push(time??);
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() - 1]))
}

/// A world whose queue is small, its process and its client.
async fn world(endpoint: &str, protocol: &str) -> Result<(World, Service, Client)> {
    let world = sending(endpoint, protocol).env("ORRERY_TELEMETRY__QUEUE", "256").start().await?;
    let service = world.spawn(&["autha", "gateway"]).await?;
    // Whatever the machine does meanwhile, nobody of this test is limited.
    let client = world.client()?;
    Ok((world, service, client))
}

async fn lost(service: &Service) -> Result<(f64, f64)> {
    let page = page(service).await?;
    let dropped = value(&page, "orrery_telemetry_dropped_total", "signal=\"traces\"");
    Ok((dropped, value(&page, "orrery_telemetry_failures_total", "signal=\"traces\"")))
}

/// Rounds until `spans` were dropped and, where exports fail, a failure is counted; each is measured against the one before anything was wrong.
async fn costs_nothing(
    service: &Service,
    client: &Client,
    before: (Duration, Duration),
    (spans, fails): (f64, bool),
) -> Result<()> {
    let (memory, first) = (service.memory()?.anonymous_bytes, lost(service).await?);
    let begun = Instant::now();
    loop {
        let (median, longest) = round(client).await?;
        ensure!(median < before.0 + KIND, "the median went from {:?} to {median:?}", before.0);
        ensure!(longest < before.1 + KIND * 3, "the longest went from {:?} to {longest:?}", before.1);
        let now = lost(service).await?;
        let (dropped, failures) = (now.0 - first.0, now.1 - first.1);
        ensure!(fails || failures < 1.0, "{failures} exports failed");
        if dropped > spans && (failures > 0.0 || !fails) {
            break;
        }
        ensure!(begun.elapsed() < TELLING, "too little was counted: {dropped} dropped, {failures} failures");
    }
    let grown = service.memory()?.anonymous_bytes.saturating_sub(memory);
    ensure!(grown < MEMORY, "memory grew by {grown} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_killed_or_hangs_slows_no_request_and_is_used_again() -> Result<()> {
    let sink = Sink::start().await?;
    let mut rotel = Rotel::start(&sink).await?;
    let (_world, service, client) = world(&rotel.grpc_url(), "grpc").await?;
    let before = round(&client).await?;
    eventually(LONG, "spans", async || (!sink.spans().is_empty()).then_some(())).await?;

    rotel.kill();
    costs_nothing(&service, &client, before, (SOME, true)).await?;
    rotel.restart().await?;
    let sent = sink.spans().len();
    eventually(LONG, "spans after the restart", async || {
        client.get("/status.json").await.ok()?;
        (sink.spans().len() > sent).then_some(())
    })
    .await?;

    rotel.freeze()?;
    costs_nothing(&service, &client, before, (MANY, true)).await?;
    rotel.thaw()?;
    let sent = sink.spans().len();
    eventually(LONG, "spans after it hung", async || {
        client.get("/status.json").await.ok()?;
        (sink.spans().len() > sent).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_up_slows_no_request() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    // It takes the connection and hangs up, whatever is said.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The other side may have gone already.
            let _gone = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.is_err();
        }
    });
    let (_world, service, client) = world(&endpoint, "grpc").await?;
    let before = round(&client).await?;
    costs_nothing(&service, &client, before, (SOME, true)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_under_load_slows_no_request() -> Result<()> {
    let sink = Sink::start_that(Answers::Refusing).await?;
    let (_world, service, client) = world(&sink.url(), "http").await?;
    let before = round(&client).await?;
    costs_nothing(&service, &client, before, (MANY, true)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_slow_collector_what_does_not_fit_is_dropped_and_the_rest_arrives() -> Result<()> {
    // Below the time that it has, so that no export fails; far too slow for what is told.
    let sink = Sink::start_that(Answers::After(Duration::from_secs(1))).await?;
    let (_world, service, client) = world(&sink.url(), "http").await?;
    let before = round(&client).await?;
    costs_nothing(&service, &client, before, (MANY, false)).await?;
    eventually(LONG, "spans by way of a slow collector", async || (!sink.spans().is_empty()).then_some(()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ends_in_time_beside_a_collector_that_hangs() -> Result<()> {
    let sink = Sink::start().await?;
    let rotel = Rotel::start(&sink).await?;
    let (_world, mut service, client) = world(&rotel.grpc_url(), "grpc").await?;
    rotel.freeze()?;
    round(&client).await?;
    let begun = Instant::now();
    let status = service.terminate(Duration::from_secs(20)).await?;
    ensure!(status.success(), "{status}");
    ensure!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_sent_at_exit() -> Result<()> {
    let sink = Sink::start().await?;
    let world = sending(&sink.url(), "http").env("ORRERY_TELEMETRY__INTERVAL", "1h").start().await?;
    let mut service = world.spawn(&["autha", "gateway"]).await?;
    let client = world.client()?;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = client.request(reqwest::Method::GET, "/status.json");
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    client.send(request).await?.expect(200)?;
    service.terminate(Duration::from_secs(20)).await?;
    ensure!(sink.spans().iter().any(|span| span.trace == trace), "no span of the last request");
    ensure!(sink.metrics().contains_key("http.server.request.duration"), "no metrics");
    ensure!(sink.records().iter().any(|record| record.body == "stopped"), "no last line");
    Ok(())
}
