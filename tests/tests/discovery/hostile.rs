//! Frames that no decent client sends, floods, and clients that do not read.

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, eventually};
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{SOON, joined, peer::Peer, somebody};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_giant_frames_close_their_socket_and_no_other() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (_, client, mut other) = joined(&world).await?;
    let text = |text: &str| Message::text(text.to_owned());
    let deep = format!(
        r#"{{"topic":"","event":"x","payload":{}{},"ref":"0"}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let giant =
        format!(r#"{{"topic":"","event":"ping","payload":{{"x":"{}"}},"ref":"0"}}"#, "x".repeat(70_000));
    let invalid = Frame::message(Bytes::from_static(&[0xff, 0xfe]), OpCode::Data(Data::Text), true);
    let reserved = Frame::message(Bytes::from_static(b"x"), OpCode::Data(Data::Continue), true);
    for (what, message, code) in [
        ("no JSON", text("nonsense"), 1007),
        ("another shape", text("[1,2,3]"), 1007),
        ("a deep one", text(&deep), 1007),
        ("a giant one", text(&giant), 1009),
        ("binary", Message::binary(Bytes::from_static(b"x")), 1003),
        ("no UTF-8", Message::Frame(invalid), 1007),
        ("a continuation of nothing", Message::Frame(reserved), 1002),
    ] {
        let mut socket = Peer::join(&world.gateway_url(), &client).await?;
        socket.message(message).await?;
        let closed = socket.closed().await.with_context(|| what.to_owned())?;
        ensure!(closed.0 == code, "{what}: {closed:?}");
    }
    ensure!(other.ask("ping", json!({})).await?["status"] == "ok");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_any_shape_are_answered() -> Result<()> {
    let world = World::builder().env("ORRERY_DISCOVERY__FRAME_BURST", "1000").start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (_, _, mut socket) = joined(&world).await?;
    for event in ["offer", "answer", "candidate", "sdp", "message", "ping", "phx_join", "x"] {
        for payload in [
            json!(null),
            json!(""),
            json!(1),
            json!([]),
            json!({}),
            json!({"recipient": 1, "content": 1, "sdp": 1}),
            json!({"recipient": "", "content": "x", "sdp": "x"}),
            json!({"recipient": "a b", "content": "x", "sdp": "x"}),
            json!({"recipient": "nobody_at_all", "content": "\u{0}", "sdp": "\u{0}"}),
        ] {
            let reply =
                socket.ask(event, payload.clone()).await.with_context(|| format!("{event} {payload}"))?;
            ensure!(reply["status"] == "ok" || reply["response"]["reason"].is_string(), "{reply}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_closes_its_socket() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_DISCOVERY__FRAME_BURST", "30")
        .env("ORRERY_DISCOVERY__FRAMES_PER_SECOND", "1")
        .start()
        .await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (_, _, mut socket) = joined(&world).await?;
    for _ in 0..60 {
        let sent = socket.text(r#"{"topic":"phoenix","event":"heartbeat","payload":"","ref":"0"}"#).await;
        if sent.is_err() {
            break;
        }
    }
    ensure!(socket.closed().await? == (1008, "too many frames".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_and_sockets_have_a_limit() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_DISCOVERY__OFFERS_PER_MINUTE", "2")
        .env("ORRERY_DISCOVERY__SOCKETS_PER_ACCOUNT", "2")
        .start()
        .await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (_, client, mut socket) = joined(&world).await?;
    let offer = json!({"type": "offer", "sdp": "v=0"});
    for _ in 0..2 {
        ensure!(socket.ask("offer", offer.clone()).await?["status"] == "ok");
    }
    ensure!(socket.ask("offer", offer).await?["response"]["reason"] == "too many requests");
    let second = Peer::join(&world.gateway_url(), &client).await?;
    let query = format!("token={}", client.access_token().context("no token")?);
    ensure!(Peer::try_open(&world.gateway_url(), &query).await?.err() == Some(429));
    second.close().await?;
    eventually(SOON, "the place of a socket that was closed", async || {
        Peer::try_open(&world.gateway_url(), &query).await.ok()?.ok()
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_and_holds_no_memory() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_DISCOVERY__FRAME_BURST", "100000")
        .env("ORRERY_DISCOVERY__FRAMES_PER_SECOND", "100000")
        .env("ORRERY_DISCOVERY__WRITE_TIMEOUT", "2s")
        .start()
        .await?;
    let _edge = world.spawn(&["gateway", "autha"]).await?;
    let service = world.spawn(&["discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, bob_client) = somebody(&world).await?;
    let deaf = Peer::join(&world.discovery_url(), &ada_client).await?;
    let mut sender = Peer::join(&world.discovery_url(), &bob_client).await?;
    sender.came(&ada.id).await?;
    let before = service.memory()?.anonymous_bytes;
    let payload = json!({"recipient": ada.id, "candidate": "x".repeat(60_000)});
    // Until it is told that she has left, she takes what her side of TCP takes, and then a bounded buffer.
    let mut sent = 0;
    while sent < 2000 {
        sent += 1;
        sender.ask("candidate", payload.clone()).await?;
        if sender.has_got(|frame| frame["payload"]["leaves"].get(&ada.id).is_some()) {
            break;
        }
    }
    sender.ask("ping", json!({})).await?;
    let after = service.memory()?.anonymous_bytes;
    ensure!(after.saturating_sub(before) < 32 << 20, "{before} bytes before, {after} after {sent} frames");
    ensure!(sent < 2000, "she is still there");
    drop(deaf);
    Ok(())
}
