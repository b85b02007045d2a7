//! One fetch for many: who comes first fetches, the others wait for what it brings.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::timeout,
};

type Turns = Arc<Mutex<HashMap<String, Arc<Turn<()>>>>>;

/// The addresses that are fetched now.
#[derive(Clone, Default)]
pub struct Flights(Turns);

/// The right to fetch an address; others wait until it is dropped.
pub struct Flight {
    key: String,
    turns: Turns,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Flights {
    /// Waits for one's turn. None when that took too long: then everybody fetches for himself.
    pub async fn acquire(&self, key: &str, most: Duration) -> Option<Flight> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(key.to_owned()).or_default())
        };
        let guard = timeout(most, turn.lock_owned()).await.ok()?;
        Some(Flight { key: key.to_owned(), turns: Arc::clone(&self.0), guard: Some(guard) })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own and nobody's else: nobody waits.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}
