//! Messages for peers that are away: kept, sealed, delivered once, gone when they were received.

use anyhow::{Context, Result, ensure};
use diesel_async::SimpleAsyncConnection;
use orrery_tests::{World, eventually};
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::{SOON, joined, peer::Peer, somebody};

async fn kept(world: &World) -> Option<i64> {
    let text = world.database().text("SELECT count(*)::text FROM discovery.messages").await;
    text.ok()??.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_waits_sealed_and_is_delivered_once() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (bob, _, mut sender) = joined(&world).await?;
    for content in ["first and secret", "second"] {
        let reply = sender.ask("message", json!({"content": content, "recipient": ada.id})).await?;
        ensure!(reply["status"] == "ok" && reply["response"]["id"].is_string(), "{reply}");
    }
    let rows = world.database().rows("SELECT * FROM discovery.messages").await?;
    let text = serde_json::to_string(&rows)?;
    ensure!(
        rows.len() == 2 && !text.contains("secret") && !text.contains(&ada.id) && !text.contains(&bob.id)
    );

    let mut recipient = Peer::join(&world.gateway_url(), &ada_client).await?;
    let (first, second) = (recipient.pending().await?, recipient.pending().await?);
    ensure!(first["content"] == "first and secret" && first["sender"] == bob.id.as_str(), "{first}");
    ensure!(second["content"] == "second" && second["sent_at"].is_string(), "{second}");
    // What was received is gone, by the client's reading alone.
    let gone = async {
        eventually(SOON, "received messages to be gone", async || (kept(&world).await? == 0).then_some(()))
            .await
    };
    let reads = async {
        recipient
            .never("a message twice", |frame| {
                frame["event"] == "pending_messages" && frame["payload"]["messages"][0].is_object()
            })
            .await
    };
    let (gone, reads) = tokio::join!(gone, reads);
    gone?;
    reads?;
    let mut again = Peer::join(&world.gateway_url(), &ada_client).await?;
    let frame = again.event("pending_messages").await?;
    ensure!(frame == json!({"messages": []}), "{frame}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_received_is_delivered_again() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, _, mut sender) = joined(&world).await?;
    sender.ask("message", json!({"content": "hello", "recipient": ada.id})).await?;
    // A client that joins and dies before it reads anything.
    let token = ada_client.access_token().context("no token")?;
    let mut dead = Peer::open(&world.gateway_url(), token).await?;
    dead.text(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#).await?;
    eventually(SOON, "the message to be handed over", async || {
        let leased = "SELECT lease::text FROM discovery.messages WHERE lease IS NOT NULL";
        world.database().text(leased).await.ok().flatten()
    })
    .await?;
    drop(dead);
    let mut recipient = Peer::join(&world.gateway_url(), &ada_client).await?;
    ensure!(recipient.pending().await?["content"] == "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_ends_while_it_is_handed_messages_hides_none() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, _, mut sender) = joined(&world).await?;
    sender.ask("message", json!({"content": "hello", "recipient": ada.id})).await?;
    // Leases are held up in the database.
    let mut gate = world.database().connect().await?;
    gate.batch_execute(
        "CREATE FUNCTION discovery.gate() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END'; \
         CREATE TRIGGER gate BEFORE UPDATE ON discovery.messages FOR EACH ROW WHEN (NEW.lease IS NOT NULL) \
         EXECUTE FUNCTION discovery.gate(); \
         SELECT pg_advisory_lock(1)",
    )
    .await?;
    let dying = Peer::join(&world.gateway_url(), &ada_client).await?;
    eventually(SOON, "a lease to be held up", async || {
        let held = "SELECT pid::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted LIMIT 1";
        world.database().text(held).await.ok().flatten()
    })
    .await?;
    drop(dying);
    let mut recipient = Peer::join(&world.gateway_url(), &ada_client).await?;
    ensure!(recipient.event("pending_messages").await? == json!({"messages": []}));
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await?;
    // Long before the lease would have ended by itself.
    let told = timeout(SOON / 2, recipient.pending()).await.context("the message is hidden by a lease")?;
    ensure!(told?["content"] == "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pong_that_was_not_asked_for_is_no_receipt() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, _, mut sender) = joined(&world).await?;
    let token = ada_client.access_token().context("no token")?;
    let mut dead = Peer::open(&world.gateway_url(), token).await?;
    for payload in ["", "x"] {
        dead.message(Message::Pong(Bytes::from_static(payload.as_bytes()))).await?;
    }
    dead.text(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#).await?;
    sender.ask("message", json!({"content": "hello", "recipient": ada.id})).await?;
    drop(dead);
    let mut recipient = Peer::join(&world.gateway_url(), &ada_client).await?;
    ensure!(recipient.pending().await?["content"] == "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_expire_and_mailboxes_have_an_end() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_DISCOVERY__MESSAGES_PER_RECIPIENT", "2")
        .env("ORRERY_DISCOVERY__MESSAGE_LIMIT", "10B")
        .start()
        .await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, _, mut sender) = joined(&world).await?;
    let message = |content: &str| json!({"content": content, "recipient": ada.id});
    let reason = |reply: &serde_json::Value| reply["response"]["reason"].as_str().map(str::to_owned);
    let reply = sender.ask("message", message("more than ten bytes")).await?;
    ensure!(reason(&reply).as_deref() == Some("content too long"), "{reply}");
    for content in ["one", "two"] {
        ensure!(sender.ask("message", message(content)).await?["status"] == "ok");
    }
    let reply = sender.ask("message", message("three")).await?;
    ensure!(reason(&reply).as_deref() == Some("too many messages wait"), "{reply}");
    // The first has waited for thirty days.
    let sql = "UPDATE discovery.messages SET expires_at = now() - interval '1 minute' \
               WHERE id = (SELECT min(id::text)::uuid FROM discovery.messages)";
    world.database().execute(sql).await?;
    let mut recipient = Peer::join(&world.gateway_url(), &ada_client).await?;
    ensure!(recipient.pending().await?["content"] == "two");
    let days = world
        .database()
        .text("SELECT max(extract(day FROM expires_at - created_at))::int::text FROM discovery.messages")
        .await?;
    ensure!(days.as_deref() == Some("30") || days.is_none(), "{days:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_answered_outlives_a_kill() -> Result<()> {
    let world = World::start().await?;
    let _edge = world.spawn(&["gateway", "autha"]).await?;
    let mut discovery = world.spawn(&["discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (_, bob_client) = somebody(&world).await?;
    let mut sender = Peer::join(&world.discovery_url(), &bob_client).await?;
    let reply = sender.ask("message", json!({"content": "hello", "recipient": ada.id})).await?;
    ensure!(reply["status"] == "ok", "{reply}");
    discovery.kill();
    discovery.restart().await?;
    let mut recipient = Peer::join(&world.discovery_url(), &ada_client).await?;
    ensure!(recipient.pending().await?["content"] == "hello");
    Ok(())
}
