//! Bodies that are too large, cut off, endless or slow, and requests that contradict themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::{throughout, until};
use orrery_tests::{Person, World, pictures};

use crate::{Footprint, LONG, WHILE, raw::Raw, refused, unharmed};

/// Longer than the gateway's and autha's patience in this world.
const PAUSE: &str = "1s";
const JSON: &str = "content-type: application/json\r\n";
const CHUNKED: &str = "transfer-encoding: chunked\r\n";

async fn small(world: &World) -> Result<()> {
    for path in ["POST /create", "POST /login", "POST /oauth/token"] {
        // Announced: refused before it is sent.
        let mut raw = Raw::connect(world).await?;
        raw.request(path, &format!("{JSON}content-length: 99999999999\r\n"), b"").await?;
        refused("announced", &raw.answer(LONG).await?, 413, "too-large", None)?;
        // Unannounced: refused once it is too much; nobody waits for the end that never comes.
        let mut raw = Raw::connect(world).await?;
        raw.request(path, &format!("{JSON}{CHUNKED}"), b"").await?;
        raw.pour([b"4000\r\n", &b" ".repeat(0x4000)[..], b"\r\n"].concat(), Duration::ZERO, 4096)?;
        refused("streamed", &raw.answer(LONG).await?, 413, "too-large", None)?;
        // Stalled, announced or not.
        for headers in [format!("{JSON}content-length: 100\r\n"), format!("{JSON}{CHUNKED}")] {
            let mut raw = Raw::connect(world).await?;
            raw.request(path, &headers, b"5\r\n{\"id\"\r\n").await?;
            refused("stalled", &raw.answer(LONG).await?, 408, "timeout", None)?;
        }
        // Cut off, by saying so and by vanishing.
        let mut raw = Raw::connect(world).await?;
        raw.request(path, &format!("{JSON}content-length: 100\r\n"), b"{\"id\": ").await?;
        raw.end();
        refused("cut off", &raw.answer(LONG).await?, 400, "malformed", None)?;
        let mut raw = Raw::connect(world).await?;
        raw.request(path, &format!("{JSON}content-length: 100\r\n"), b"{\"id\": ").await?;
        drop(raw);
    }
    Ok(())
}

async fn uploads(world: &World, token: &str) -> Result<()> {
    let line = "PUT /users/@me/avatar";
    let headers = |length: usize| {
        format!("authorization: Bearer {token}\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n")
    };
    let picture = pictures::noise_png(300_000)?;
    let half = picture.get(..150_000).context("a short picture")?;

    let mut raw = Raw::connect(world).await?;
    raw.request(line, &headers(11 * 1024 * 1024), b"").await?;
    refused("11 MiB announced", &raw.answer(LONG).await?, 413, "too-large", None)?;
    let mut raw = Raw::connect(world).await?;
    raw.request(line, &headers(10 * 1024 * 1024 + 1), b"\x89PNG").await?;
    raw.pour(vec![0; 0x10000], Duration::from_millis(5), 160)?;
    refused("a byte too many announced", &raw.answer(LONG).await?, 413, "too-large", Some("body"))?;

    let chunked = format!("authorization: Bearer {token}\r\ncontent-type: image/png\r\n{CHUNKED}");
    let mut raw = Raw::connect(world).await?;
    raw.request(line, &chunked, b"4\r\n\x89PNG\r\n0\r\n\r\n").await?;
    refused("no length", &raw.answer(LONG).await?, 411, "length-required", Some("Content-Length"))?;

    let mut raw = Raw::connect(world).await?;
    raw.request(line, &headers(picture.len()), half).await?;
    refused("stalled", &raw.answer(LONG).await?, 408, "timeout", None)?;
    // The client vanishes within its picture: nothing of it is kept.
    for sent in [b"".as_slice(), b"\x89PNG", half] {
        let mut raw = Raw::connect(world).await?;
        raw.request(line, &headers(picture.len()), sent).await?;
        drop(raw);
    }
    Ok(())
}

/// Requests of which nobody knows where they end: refused by the HTTP library itself, which has no words for it.
async fn contradictions(world: &World) -> Result<()> {
    for headers in [
        format!("{JSON}{CHUNKED}content-length: 5\r\n"),
        format!("{JSON}content-length: 5\r\ncontent-length: 6\r\n"),
        format!("{JSON}content-length: -5\r\n"),
        format!("{JSON}content-length: 5 5\r\n"),
        format!("{JSON}transfer-encoding: gzip, identity\r\n"),
        "bad header\r\n".to_owned(),
        "x-a: b\0c\r\n".to_owned(),
    ] {
        let mut raw = Raw::connect(world).await?;
        raw.request("POST /login", &headers, b"{}   ").await?;
        let answer = raw.answer(LONG).await.with_context(|| headers.clone())?;
        ensure!(matches!(answer.status, 400 | 408 | 413 | 501), "{headers:?}: {}", answer.status);
    }
    let mut raw = Raw::connect(world).await?;
    raw.request("POST /login", &format!("{JSON}{CHUNKED}"), b"zz\r\n{}\r\n0\r\n\r\n").await?;
    refused("a chunk of no size", &raw.answer(LONG).await?, 400, "malformed", None)
}

#[tokio::test]
async fn bodies_without_measure_or_end_are_refused_and_leave_nothing() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_GATEWAY__BODY_TIMEOUT", PAUSE)
        .env("ORRERY_AUTHA__BODY_TIMEOUT", "5s")
        .start()
        .await?;
    let mut orrery = world.spawn(&[]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let token = client.access_token().context("no token")?;
    let before = Footprint::of(&world).await?;
    let peak = orrery.memory()?;
    tokio::try_join!(small(&world), uploads(&world, token), contradictions(&world))?;
    // A broken upload may be noticed a moment after its client is gone.
    until(LONG, "what was begun to be gone", async || {
        Footprint::of(&world).await.is_ok_and(|now| now == before)
    })
    .await?;
    throughout(WHILE, "nothing is left behind", async || {
        Footprint::of(&world).await.is_ok_and(|now| now == before)
    })
    .await?;
    ensure!(orrery.ended().is_none(), "the process ended");
    let grown = orrery.memory()?.peak_rss_bytes.saturating_sub(peak.rss_bytes);
    ensure!(grown < 96 * 1024 * 1024, "{grown} bytes of memory more");
    unharmed(&world, &before).await
}

#[tokio::test]
async fn a_body_that_trickles_for_ever_is_refused() -> Result<()> {
    let world = World::start().await?;
    let _orrery = world.spawn(&[]).await?;
    for headers in [format!("{JSON}{CHUNKED}"), format!("{JSON}content-length: 60000\r\n")] {
        let piece = if headers.contains("chunked") { "1\r\n \r\n" } else { " " };
        let mut raw = Raw::connect(&world).await?;
        raw.request("POST /create", &headers, b"").await?;
        raw.pour(piece.as_bytes().to_vec(), Duration::from_millis(200), 1000)?;
        refused("trickling", &raw.answer(Duration::from_secs(25)).await?, 408, "timeout", None)?;
    }
    Ok(())
}
