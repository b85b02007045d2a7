//! What peers choose: who sees them, whom they know, whom they block.

use anyhow::{Result, ensure};
use orrery_tests::{Answer, Client, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{joined, peer::Peer, somebody};

async fn put(client: &Client, path: &str) -> Result<Answer> {
    client.send(client.request(Method::PUT, path)).await
}

async fn choose(client: &Client, visibility: &str) -> Result<()> {
    let request = client.request(Method::PUT, "/peers/@me").json(&json!({"visibility": visibility}));
    client.send(request).await?.expect(204)?;
    Ok(())
}

async fn look_up(client: &Client, name: &str) -> Result<Value> {
    Ok(client.get(&format!("/peers/{name}")).await?.expect(200)?.body)
}

fn is_about(frame: &Value, name: &str) -> bool {
    let payload = &frame["payload"];
    payload["joins"].get(name).is_some() || payload["leaves"].get(name).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_tells_no_more_than_its_owner_allows() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (bob, bob_client, mut bob_socket) = joined(&world).await?;
    let (_, carol_client, mut carol_socket) = joined(&world).await?;
    choose(&ada_client, "contacts").await?;
    put(&ada_client, &format!("/peers/@me/contacts/{}", bob.id)).await?.expect(204)?;
    let settings = ada_client.get("/peers/@me").await?.expect(200)?.body;
    ensure!(settings == json!({"visibility": "contacts", "contacts": [bob.id], "blocked": []}), "{settings}");

    let mut ada_socket = Peer::join(&world.gateway_url(), &ada_client).await?;
    ada_socket.ask("offer", json!({"type": "offer", "sdp": "v=0"})).await?;
    bob_socket.came(&ada.id).await?;
    carol_socket.never("a peer that is not for her", |frame| is_about(frame, &ada.id)).await?;
    ensure!(look_up(&bob_client, &ada.id).await?["online"] == true);
    let hidden = look_up(&carol_client, &ada.id).await?;
    ensure!(hidden == json!({"vanity": ada.id, "online": false, "offer": null}), "{hidden}");

    // Whom she is hidden from cannot make an offer to her either, and does not learn why.
    let offer = json!({"type": "offer", "sdp": "v=0", "recipient": ada.id});
    ensure!(carol_socket.ask("offer", offer.clone()).await?["status"] == "ok");
    ensure!(bob_socket.ask("offer", offer).await?["status"] == "ok");
    ensure!(ada_socket.event("offer").await?["sender"] == bob.id.as_str());
    ada_socket.never("an offer that is not for her", |frame| frame["event"] == "offer").await?;

    // She hides: who saw her is told that she left, and she goes on.
    choose(&ada_client, "hidden").await?;
    bob_socket.left(&ada.id).await?;
    ensure!(look_up(&bob_client, &ada.id).await?["online"] == false);
    ensure!(look_up(&ada_client, &ada.id).await?["online"] == true);
    choose(&ada_client, "public").await?;
    bob_socket.came(&ada.id).await?;
    carol_socket.came(&ada.id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_blocked_sees_nothing_and_sends_nothing() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client, mut ada_socket) = joined(&world).await?;
    let (bob, bob_client, mut bob_socket) = joined(&world).await?;
    bob_socket.came(&ada.id).await?;
    ada_socket.came(&bob.id).await?;
    put(&ada_client, &format!("/peers/@me/blocked/{}", bob.id)).await?.expect(204)?;
    bob_socket.left(&ada.id).await?;
    ada_socket.left(&bob.id).await?;
    ensure!(look_up(&bob_client, &ada.id).await?["online"] == false);
    // He is answered like anybody.
    let message = json!({"content": "hello", "recipient": ada.id});
    let reply = bob_socket.ask("message", message.clone()).await?;
    ensure!(reply["status"] == "ok" && reply["response"]["id"].is_string(), "{reply}");
    let none = world.database().text("SELECT id::text FROM discovery.messages").await?;
    ensure!(none.is_none(), "{none:?}");

    let path = format!("/peers/@me/blocked/{}", bob.id);
    ada_client.send(ada_client.request(Method::DELETE, &path)).await?.expect(204)?;
    bob_socket.came(&ada.id).await?;
    bob_socket.ask("message", message).await?;
    ensure!(ada_socket.pending().await?["content"] == "hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_chosen_is_told() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, client) = somebody(&world).await?;
    let request = client.request(Method::PUT, "/peers/@me").json(&json!({"visibility": "friends"}));
    let answer = client.send(request).await?.expect(422)?;
    ensure!(answer.problem()?.field("visibility")?.code == "unknown");
    let own = put(&client, &format!("/peers/@me/contacts/{}", ada.id)).await?.expect(422)?;
    ensure!(own.problem()?.field("vanity")?.code == "own");
    let foreign = put(&client, "/peers/@me/contacts/bob@elsewhere.example").await?.expect(422)?;
    ensure!(foreign.problem()?.field("vanity")?.code == "foreign");
    ensure!(client.get("/peers/@me/turn").await?.status == 404);
    Ok(())
}
