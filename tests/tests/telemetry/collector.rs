//! A collector that is killed, hangs or refuses costs nothing but a counter: requests go on, memory is bounded, and what is lost is counted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Service, World, eventually};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use super::{LONG, page, rotel::Rotel, sending, sink::Sink, value};

/// Requests of one round, and how many are under way at once.
const REQUESTS: usize = 600;
const AT_ONCE: usize = 8;
/// What a hanging collector may add: far below its own timeout, far above the noise of a busy machine.
const KIND: Duration = Duration::from_millis(500);
/// What full queues may take, with the allocator's slack.
const MEMORY: u64 = 48 * 1024 * 1024;

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
async fn world(endpoint: &str) -> Result<(World, Service, Client)> {
    let world = sending(endpoint, "grpc").env("ORRERY_TELEMETRY__QUEUE", "256").start().await?;
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

/// Rounds until something is counted as lost; each is measured against the one before anything was wrong.
async fn costs_nothing(service: &Service, client: &Client, before: (Duration, Duration)) -> Result<()> {
    let memory = service.memory()?.anonymous_bytes;
    let begun = Instant::now();
    loop {
        let (median, longest) = round(client).await?;
        ensure!(median < before.0 + KIND, "the median went from {:?} to {median:?}", before.0);
        ensure!(longest < before.1 + KIND * 3, "the longest went from {:?} to {longest:?}", before.1);
        let (dropped, failures) = lost(service).await?;
        if dropped > 0.0 && failures > 0.0 {
            break;
        }
        ensure!(begun.elapsed() < LONG, "nothing was counted: {dropped} dropped, {failures} failures");
    }
    let grown = service.memory()?.anonymous_bytes.saturating_sub(memory);
    ensure!(grown < MEMORY, "memory grew by {grown} bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_killed_or_hangs_slows_no_request_and_is_used_again() -> Result<()> {
    let sink = Sink::start().await?;
    let mut rotel = Rotel::start(&sink).await?;
    let (_world, service, client) = world(&rotel.grpc_url()).await?;
    let before = round(&client).await?;
    eventually(LONG, "spans", async || (!sink.spans().is_empty()).then_some(())).await?;

    rotel.kill();
    costs_nothing(&service, &client, before).await?;
    rotel.restart().await?;
    let sent = sink.spans().len();
    eventually(LONG, "spans after the restart", async || {
        client.get("/status.json").await.ok()?;
        (sink.spans().len() > sent).then_some(())
    })
    .await?;

    let lost_before = lost(&service).await?;
    rotel.freeze()?;
    let begun = Instant::now();
    loop {
        let (median, longest) = round(&client).await?;
        ensure!(median < before.0 + KIND && longest < before.1 + KIND * 3, "{median:?}, {longest:?}");
        let now = lost(&service).await?;
        if now.0 > lost_before.0 && now.1 > lost_before.1 {
            break;
        }
        ensure!(begun.elapsed() < LONG, "a hanging collector was not counted: {now:?}");
    }
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
async fn a_collector_that_refuses_slows_no_request() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    // It takes the connection and hangs up, whatever is said.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The other side may have gone already.
            let _gone = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.is_err();
        }
    });
    let (_world, service, client) = world(&endpoint).await?;
    let before = round(&client).await?;
    costs_nothing(&service, &client, before).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ends_in_time_beside_a_collector_that_hangs() -> Result<()> {
    let sink = Sink::start().await?;
    let rotel = Rotel::start(&sink).await?;
    let (_world, mut service, client) = world(&rotel.grpc_url()).await?;
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
