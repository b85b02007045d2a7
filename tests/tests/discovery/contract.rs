//! The golden frames: what the library of Turms sends, and what it is to get, to the letter of `docs/discovery.md`.

use anyhow::{Context, Result, ensure};
use orrery_tests::World;
use serde_json::{Value, json};

use crate::{SOON, joined, peer::Peer, somebody};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_log_in_join_see_each_other_and_exchange_an_offer_and_a_message() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client, mut ada_socket) = joined(&world).await?;
    let meta = ada_socket.came(&ada.id).await?;
    ensure!(meta["online_at"].is_i64() && meta["phx_ref"].is_string(), "{meta}");
    let (bob, bob_client, mut bob_socket) = joined(&world).await?;
    ada_socket.came(&bob.id).await?;
    bob_socket.came(&ada.id).await?;

    let offer = json!({"type": "offer", "sdp": "v=0 of ada"});
    ensure!(ada_socket.ask("offer", offer.clone()).await? == json!({"status": "ok", "response": {}}));
    let looked_up = bob_client.get(&format!("/peers/{}", ada.id)).await?.expect(200)?.body;
    ensure!(looked_up == json!({"vanity": ada.id, "online": true, "offer": offer}), "{looked_up}");

    let recipient = format!("{}@127.0.0.1", ada.id);
    let answer = json!({"type": "answer", "sdp": "v=0 of bob", "recipient": recipient});
    ensure!(bob_socket.ask("answer", answer).await?["status"] == "ok");
    let answered = ada_socket.event("answer").await?;
    ensure!(answered == json!({"type": "answer", "sdp": "v=0 of bob", "sender": bob.id}), "{answered}");

    let message = json!({"content": "hello ada", "recipient": recipient});
    ensure!(bob_socket.ask("message", message).await?["status"] == "ok");
    let got = ada_socket.pending().await?;
    ensure!(got["content"] == "hello ada" && got["sender"] == bob.id.as_str(), "{got}");

    drop(bob_socket);
    ada_socket.left(&bob.id).await?;
    let gone = ada_client.get(&format!("/peers/{}", bob.id)).await?.expect(200)?.body;
    ensure!(gone == json!({"vanity": bob.id, "online": false, "offer": null}), "{gone}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_of_turms_is_answered_to_the_letter() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, client) = somebody(&world).await?;
    let mut socket = Peer::open(&world.gateway_url(), client.access_token().context("no token")?).await?;

    let beat = r#"{"topic":"phoenix","event":"heartbeat","payload":"","ref":"0"}"#;
    let beaten = json!({"topic": "phoenix", "event": "phx_reply", "ref": "0",
        "payload": {"status": "ok", "response": {}}});
    let refused = |reference: &str, reason: &str| {
        json!({"topic": "", "event": "phx_reply", "ref": reference,
            "payload": {"status": "error", "response": {"reason": reason}}})
    };
    let done = |reference: &str| json!({"topic": "", "event": "phx_reply", "ref": reference, "payload": {"status": "ok", "response": {}}});
    // Not joined yet: its heartbeat is answered, and nothing else.
    socket.text(beat).await?;
    next(&mut socket, &beaten).await?;
    let offer = r#"{"topic":"","event":"offer","payload":{"type":"offer","sdp":"v=0..."},"ref":"1"}"#;
    socket.text(offer).await?;
    next(&mut socket, &refused("1", "unmatched topic")).await?;

    socket.text(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#).await?;
    next(&mut socket, &done("0")).await?;
    let diff = socket.frame(SOON).await?.context("no presence")?;
    let meta = diff["payload"]["joins"][&ada.id]["metas"][0].clone();
    ensure!(meta["online_at"].is_i64() && meta["phx_ref"].is_string(), "{diff}");
    ensure!(
        diff == json!({"topic": "", "event": "presence_diff", "ref": null,
            "payload": {"joins": {&ada.id: {"metas": [meta]}}, "leaves": {}}}),
        "{diff}"
    );
    let nothing = json!({"topic": "", "event": "pending_messages", "ref": null, "payload": {"messages": []}});
    next(&mut socket, &nothing).await?;

    // References repeat.
    for _ in 0..2 {
        socket.text(beat).await?;
        next(&mut socket, &beaten).await?;
    }
    socket.text(offer).await?;
    next(&mut socket, &done("1")).await?;
    socket.text(r#"{"topic":"","event":"sdp","payload":{"sdp":"v=1"},"ref":"1"}"#).await?;
    next(&mut socket, &done("1")).await?;
    socket.text(r#"{"topic":"","event":"ping","payload":{"a":1},"ref":"2"}"#).await?;
    let pong = json!({"topic": "", "event": "phx_reply", "ref": "2",
        "payload": {"status": "ok", "response": {"a": 1}}});
    next(&mut socket, &pong).await?;
    socket.text(r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"3"}"#).await?;
    let unmatched = socket.frame(SOON).await?.context("no answer")?;
    ensure!(unmatched["topic"] == "room:1", "{unmatched}");
    ensure!(unmatched["payload"]["response"] == json!({"reason": "unmatched topic"}), "{unmatched}");
    socket.text(r#"{"topic":"","event":"nonsense","payload":{},"ref":"4"}"#).await?;
    next(&mut socket, &refused("4", "unknown event")).await?;
    socket.text(r#"{"topic":"","event":"message","payload":{"content":"x","recipient":"a@elsewhere.example"},"ref":"5"}"#).await?;
    next(&mut socket, &refused("5", "recipient of another server")).await?;

    // After it left it is told so, and is not there any more.
    socket.text(r#"{"topic":"","event":"phx_leave","payload":{},"ref":"6"}"#).await?;
    next(&mut socket, &done("6")).await?;
    let closed = json!({"topic": "", "event": "phx_close", "ref": "6", "payload": {}});
    next(&mut socket, &closed).await?;
    socket.text(offer).await?;
    next(&mut socket, &refused("1", "unmatched topic")).await?;
    socket.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_without_a_valid_token_is_answered_403() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    for query in ["", "token=", "token=nonsense", "token=a.b.c"] {
        ensure!(Peer::try_open(&world.gateway_url(), query).await?.err() == Some(403), "{query}");
    }
    let client = world.client()?;
    ensure!(client.get("/peers/ada").await?.status == 401);
    Ok(())
}

async fn next(socket: &mut Peer, expected: &Value) -> Result<()> {
    let frame = socket.frame(SOON).await?.with_context(|| format!("{expected} did not come"))?;
    ensure!(frame == *expected, "{expected} expected, got {frame}");
    Ok(())
}
