//! Discovery as the client of Turms and as current Phoenix clients use it: over WebSocket, by the gateway, against the real parts.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod browsers;
mod contract;
mod hostile;
mod messages;
mod peer;
mod phoenix;
mod presence;
mod replicas;
mod sessions;
mod tokens;
mod turn;

use std::time::Duration;

use anyhow::Result;
use orrery_tests::{Client, Person, World};

use peer::Peer;

/// The deadline of what comes by itself.
const SOON: Duration = Duration::from_secs(60);

/// A person who has signed up, and their client.
async fn somebody(world: &World) -> Result<(Person, Client)> {
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    Ok((person, client))
}

/// The same with a socket that has joined, by the gateway.
async fn joined(world: &World) -> Result<(Person, Client, Peer)> {
    let (person, client) = somebody(world).await?;
    let peer = Peer::join(&world.gateway_url(), &client).await?;
    Ok((person, client, peer))
}
