//! The way between replicas: an exchange at the broker to which each has a queue of its own that goes with its connection. What travels here is
//! ephemeral, and lost without harm (decision 57): presence is told again, a message that waits is found by the sweep, an offer is made again. So
//! it goes past the outbox. Bodies are sealed: names stand in them.

mod actor;
mod queue;

use std::sync::Arc;

use orrery_config::keys::KeyRing;
use orrery_seal::{SealError, Sealer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use actor::LinkActor;
use queue::Queue;

use crate::{
    name::Name,
    presence::{ReplicaId, Told},
};

/// What is derived from the key.
const PURPOSE: &str = "discovery.link";

/// What one replica says to another, or to all.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// It has come: the others are to tell it all.
    Hello,
    /// Who is there, in parts; the last is complete.
    State { peers: Vec<Told>, sequence: u64, complete: bool },
    /// What is new.
    News { joins: Vec<Told>, leaves: Vec<Name>, sequence: u64 },
    /// It is alive.
    Alive { sequence: u64 },
    /// It goes.
    Bye,
    /// A frame for the sockets of a peer.
    Forward { name: Name, event: String, payload: Value },
    /// Messages wait for a peer.
    Wake { name: Name },
    /// A peer has chosen otherwise.
    Changed { name: Name },
}

/// As it travels, sealed.
#[derive(Serialize, Deserialize)]
struct Envelope {
    from: ReplicaId,
    said: Vec<Said>,
}

/// Sends to other replicas; clones are the same one.
#[derive(Clone)]
pub struct Link {
    queue: Arc<Queue>,
    sealer: Arc<Sealer>,
}

impl Link {
    /// A way out, whose bodies are sealed under a key of `ring`.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        Ok(Self { queue: Arc::default(), sealer: Arc::new(Sealer::new(ring, PURPOSE)?) })
    }

    /// A frame for the sockets of a peer at these replicas; false when too much waits to be sent.
    pub fn forward(&self, to: &[ReplicaId], name: Name, event: &str, payload: Value) -> bool {
        to.iter().all(|replica| {
            let said =
                Said::Forward { name: name.clone(), event: event.to_owned(), payload: payload.clone() };
            self.queue.push(Some(*replica), said)
        })
    }

    /// Messages wait for a peer at these replicas; false when too much waits to be sent.
    pub fn wake(&self, to: &[ReplicaId], name: Name) -> bool {
        to.iter().all(|replica| self.queue.push(Some(*replica), Said::Wake { name: name.clone() }))
    }

    /// A peer has chosen otherwise; false when too much waits to be sent.
    pub fn changed(&self, name: Name) -> bool {
        self.queue.push(None, Said::Changed { name })
    }
}
