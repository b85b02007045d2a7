//! What a test used and no log, metric or list may name: names, addresses, tokens, passwords, keys (promise 7), and the search for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter strings would be found by chance.
const SHORTEST: usize = 6;

/// A set of strings that must not stand in anything that operators see; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    /// Adds a string. One of less than 6 characters is ignored.
    pub fn add(&self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_lowercase());
        }
    }

    /// Every line of `log` in which a secret stands (in any case), as `line number: line`.
    #[must_use]
    pub fn found_in(&self, log: &str) -> Vec<String> {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lower = log.to_lowercase();
        // Most logs are clean: look at the whole first, at lines only where something is.
        let present: Vec<&String> = secrets.iter().filter(|secret| lower.contains(secret.as_str())).collect();
        if present.is_empty() {
            return Vec::new();
        }
        lower
            .lines()
            .enumerate()
            .filter(|(_, line)| present.iter().any(|secret| line.contains(secret.as_str())))
            .map(|(index, line)| format!("{}: {line}", index + 1))
            .collect()
    }
}
