//! Two replicas: a socket may be at either; one that is killed takes its peers offline and loses nothing that waits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Service, World, ports::Port};
use reqwest::Method;
use serde_json::json;

use crate::{peer::Peer, somebody};

/// How long peers of a killed replica may count as online.
const LIMIT: Duration = Duration::from_secs(60);

/// The same person's client at another address.
fn at(base: &str, client: &Client) -> Result<Client> {
    Ok(Client::new(base)?.with_token(client.access_token().context("no token")?))
}

/// The second replica, and its address.
async fn second(world: &World) -> Result<(Service, Port, String)> {
    let port = Port::reserve()?;
    let address = port.address().to_string();
    let service = world.spawn_with(&["discovery"], &[("ORRERY_DISCOVERY__LISTEN", &address)]).await?;
    Ok((service, port, format!("http://{address}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_at_two_replicas_find_each_other() -> Result<()> {
    let world = World::start().await?;
    let _edge = world.spawn(&["gateway", "autha"]).await?;
    let _first = world.spawn(&["discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let mut ada_socket = Peer::join(&world.discovery_url(), &ada_client).await?;
    // It comes later, and is told who is there.
    let (mut other, _port, elsewhere) = second(&world).await?;
    let (bob, bob_client) = somebody(&world).await?;
    let mut bob_socket = Peer::join(&elsewhere, &bob_client).await?;
    bob_socket.came(&ada.id).await?;
    ada_socket.came(&bob.id).await?;

    let offer = json!({"type": "offer", "sdp": "v=0", "recipient": bob.id});
    ensure!(ada_socket.ask("offer", offer).await?["status"] == "ok");
    ensure!(bob_socket.event("offer").await? == json!({"type": "offer", "sdp": "v=0", "sender": ada.id}));
    let message = json!({"content": "hello", "recipient": ada.id});
    ensure!(bob_socket.ask("message", message).await?["status"] == "ok");
    ensure!(ada_socket.pending().await?["content"] == "hello");

    // A choice holds everywhere.
    let client = at(&elsewhere, &ada_client)?;
    let hide = client.request(Method::PUT, "/peers/@me").json(&json!({"visibility": "hidden"}));
    client.send(hide).await?.expect(204)?;
    bob_socket.left(&ada.id).await?;

    // It takes its leave: its peers are told to come back, and are offline at once.
    other.terminate(Duration::from_secs(20)).await?;
    ensure!(bob_socket.closed().await?.0 == 1012);
    ada_socket.left(&bob.id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replicas_peers_go_offline_and_nothing_that_waits_is_lost() -> Result<()> {
    // What a dead replica was handing over is free again after four times this.
    let world = World::builder().env("ORRERY_DISCOVERY__WRITE_TIMEOUT", "3s").start().await?;
    let _edge = world.spawn(&["gateway", "autha"]).await?;
    let _first = world.spawn(&["discovery"]).await?;
    let (mut other, _port, elsewhere) = second(&world).await?;
    let (_, ada_client) = somebody(&world).await?;
    let (bob, bob_client) = somebody(&world).await?;
    let mut ada_socket = Peer::join(&world.discovery_url(), &ada_client).await?;
    let bob_socket = Peer::join(&elsewhere, &bob_client).await?;
    ada_socket.came(&bob.id).await?;
    let mut answered = 0;
    let killed = Instant::now();
    for number in 0..40 {
        if number == 20 {
            other.kill();
        }
        let message = json!({"content": format!("number {number}"), "recipient": bob.id});
        let reply = ada_socket.ask("message", message).await?;
        answered += usize::from(reply["status"] == "ok");
    }
    ensure!(answered == 40, "{answered}");
    drop(bob_socket);
    ada_socket.left(&bob.id).await?;
    ensure!(killed.elapsed() < LIMIT, "{:?}", killed.elapsed());
    let looked_up = at(&world.discovery_url(), &ada_client)?.get(&format!("/peers/{}", bob.id)).await?;
    ensure!(looked_up.expect(200)?.body["online"] == false);

    // What he had not received comes now, in order. What he may have received comes once at most.
    let mut again = Peer::join(&world.discovery_url(), &bob_client).await?;
    let mut next = again.pending().await?;
    loop {
        let content = next["content"].as_str().unwrap_or_default().to_owned();
        if content == "number 39" {
            break;
        }
        let following = again.pending().await?;
        let number = |text: &str| text.rsplit(' ').next().and_then(|number| number.parse::<u32>().ok());
        let (this, that) = (number(&content), number(following["content"].as_str().unwrap_or_default()));
        ensure!(this.map(|this| this + 1) == that, "{this:?} is followed by {that:?}");
        next = following;
    }
    Ok(())
}

/// How many sockets a process says that it has.
async fn sockets(service: &Service) -> Option<u64> {
    let page = Client::new(&service.internal_url()).ok()?.get("/metrics").await.ok()?;
    let text = String::from_utf8_lossy(&page.bytes).into_owned();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find(|line| line.split(['{', ' ']).next() == Some("orrery_discovery_sockets"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_spreads_sockets_over_replicas_and_one_that_ends_is_left_out() -> Result<()> {
    let world = World::start().await?;
    let first = world.spawn(&["discovery"]).await?;
    let (mut other, _port, elsewhere) = second(&world).await?;
    let upstreams = format!("{},{elsewhere}", world.discovery_url());
    let settings = [("ORRERY_GATEWAY__UPSTREAMS__DISCOVERY", upstreams.as_str())];
    let _edge = world.spawn_with(&["gateway", "autha"], &settings).await?;
    let mut peers = Vec::new();
    for _ in 0..4 {
        let (person, client) = somebody(&world).await?;
        let peer = Peer::join(&world.gateway_url(), &client).await?;
        peers.push((person, client, peer));
    }
    let spread = (sockets(&first).await, sockets(&other).await);
    ensure!(spread == (Some(2), Some(2)), "{spread:?}");
    for (_, _, peer) in &mut peers {
        ensure!(peer.ask("ping", json!({})).await?["status"] == "ok");
    }
    other.terminate(Duration::from_secs(20)).await?;
    // Those who are told to come back land at the other one.
    let mut closed = 0;
    for (person, client, peer) in &mut peers {
        let stays = peer.ask("ping", json!({})).await.is_ok_and(|reply| reply["status"] == "ok");
        if !stays {
            closed += 1;
            *peer = Peer::join(&world.gateway_url(), client).await?;
            peer.came(&person.id).await?;
        }
    }
    ensure!(closed == 2, "{closed}");
    ensure!(sockets(&first).await == Some(4));
    Ok(())
}
