//! Sessions that end take their sockets with them, and their tokens open no other; of a deleted account nothing is kept.

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, eventually};
use reqwest::Method;
use serde_json::json;

use crate::{SOON, joined, peer::Peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_out_closes_the_sockets_of_its_session_and_no_others() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, client, mut first) = joined(&world).await?;
    let other = world.client()?.logged_in(&ada).await?;
    let mut second = Peer::join(&world.gateway_url(), &other).await?;
    client.send(client.request(Method::POST, "/logout")).await?.expect(204)?;
    ensure!(first.closed().await? == (1008, "the session has ended".to_owned()));
    // The token has not expired, and is not believed any more.
    let query = format!("token={}", client.access_token().context("no token")?);
    let refused = eventually(SOON, "the revoked token to be refused", async || {
        Peer::try_open(&world.gateway_url(), &query).await.ok()?.err()
    });
    ensure!(refused.await? == 403);
    ensure!(client.get("/peers/@me").await?.status == 401);
    ensure!(second.ask("ping", json!({})).await?["status"] == "ok");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_account_is_closed_and_nothing_of_it_is_kept() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__DELETION_GRACE", "0s").start().await?;
    let _service = world.spawn(&["gateway", "autha", "maily", "discovery"]).await?;
    let (ada, client, mut socket) = joined(&world).await?;
    let (bob, bob_client, mut bob_socket) = joined(&world).await?;
    socket.ask("offer", json!({"type": "offer", "sdp": "v=0"})).await?;
    let path = format!("/peers/@me/contacts/{}", bob.id);
    client.send(client.request(Method::PUT, &path)).await?.expect(204)?;
    let path = format!("/peers/@me/blocked/{}", ada.id);
    bob_client.send(bob_client.request(Method::PUT, &path)).await?.expect(204)?;
    let body = json!({"password": ada.password});
    client.send(client.request(Method::DELETE, "/users/@me").json(&body)).await?;
    socket.closed().await?;
    bob_socket.ask("ping", json!({})).await?;
    eventually(SOON, "all of it to be gone", async || {
        let left = "SELECT ((SELECT count(*) FROM discovery.relations) + (SELECT count(*) FROM discovery.offers))::text";
        let text = world.database().text(left).await.ok()??;
        (text == "0").then_some(())
    })
    .await?;
    eventually(SOON, "the receipt", async || {
        let receipts = "SELECT holder FROM autha.deletion_receipts WHERE holder = 'discovery'";
        world.database().text(receipts).await.ok().flatten()
    })
    .await?;
    Ok(())
}
