//! Presence: who is online, and who is told of it. It lives in memory only and is no promise: what is lost of it is told again by the next
//! heartbeat of a replica. How replicas tell each other lives in `link`.

mod audience;
mod directory;
mod profile;
mod remote;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

pub use directory::{Directory, Opened, SocketId, TooMany};
pub use profile::{Profile, Visibility};

use crate::name::Name;

/// One process among those that serve discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub Uuid);

/// What is said of a peer that is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Since when, in seconds.
    pub online_at: i64,
    /// By which clients tell one time from the next.
    pub phx_ref: String,
}

/// A peer that is online somewhere, as a replica tells the others.
#[derive(Clone, Serialize, Deserialize)]
pub struct Told {
    /// Who.
    pub name: Name,
    /// Since when.
    pub meta: Meta,
    /// Who may know.
    pub profile: Profile,
}

/// The directory of a process, for all who use it. Nothing waits while it is held.
#[derive(Clone)]
pub struct Presence {
    directory: Arc<Mutex<Directory>>,
    /// Rung when something is to be told to the other replicas.
    dirty: Arc<Notify>,
    /// Rung when it has to be read what a peer has chosen.
    stale: Arc<Notify>,
}

impl Presence {
    /// An empty directory of this process.
    pub fn new(replica: ReplicaId, limits: directory::Limits) -> Self {
        Self {
            directory: Arc::new(Mutex::new(Directory::new(replica, limits))),
            dirty: Arc::default(),
            stale: Arc::default(),
        }
    }

    /// The directory. Whoever changes it has to call `changed` afterwards.
    pub fn lock(&self) -> MutexGuard<'_, Directory> {
        // A panic while it is held leaves a peer shown or not shown to somebody: the next change mends it.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings for what has to be told to the other replicas.
    pub fn changed(&self) {
        if self.lock().has_news() {
            self.dirty.notify_one();
        }
    }

    /// A peer has chosen otherwise.
    pub fn mark_stale(&self, name: &Name) {
        if self.lock().mark_stale(name) {
            self.stale.notify_one();
        }
    }

    /// Returns when it may have to be read what some peer has chosen.
    pub async fn stale(&self) {
        self.stale.notified().await;
    }

    /// Returns when there may be something to tell.
    pub async fn news(&self) {
        self.dirty.notified().await;
    }
}

pub use directory::Limits;
