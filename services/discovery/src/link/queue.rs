//! What waits to be sent to other replicas, bounded: while the broker is away it is let go.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::Said;
use crate::presence::ReplicaId;

/// How much may wait.
const CAPACITY: usize = 8192;
/// How much is sent in one message.
const BATCH: usize = 64;

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<(Option<ReplicaId>, Said)>>,
    ready: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Option<ReplicaId>, Said)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds for a replica, or for all; false when too much waits.
    pub fn push(&self, to: Option<ReplicaId>, said: Said) -> bool {
        let mut waiting = self.lock();
        if waiting.len() >= CAPACITY {
            return false;
        }
        waiting.push_back((to, said));
        drop(waiting);
        self.ready.notify_one();
        true
    }

    /// Returns when something waits.
    pub async fn ready(&self) {
        loop {
            if !self.lock().is_empty() {
                return;
            }
            self.ready.notified().await;
        }
    }

    /// The next that go to the same replica.
    pub fn take(&self) -> Option<(Option<ReplicaId>, Vec<Said>)> {
        let mut waiting = self.lock();
        let (to, first) = waiting.pop_front()?;
        let mut said = vec![first];
        while said.len() < BATCH && waiting.front().is_some_and(|(next, _)| *next == to) {
            said.extend(waiting.pop_front().map(|(_, next)| next));
        }
        Some((to, said))
    }

    /// Lets go of what waited for a connection.
    pub fn clear(&self) {
        self.lock().clear();
    }
}
