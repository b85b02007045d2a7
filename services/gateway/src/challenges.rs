//! What the gateway answers to a certificate authority that proves a name by HTTP-01 (RFC 8555, section 8.3). How certificates are ordered lives
//! in `acme`.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

const PREFIX: &str = "/.well-known/acme-challenge/";

/// The challenges that are open, shared by workers and listeners.
#[derive(Debug, Clone, Default)]
pub struct Challenges(Arc<RwLock<HashMap<String, String>>>);

impl Challenges {
    /// Opens one.
    pub fn open(&self, token: String, answer: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token, answer);
    }

    /// Closes one.
    pub fn close(&self, token: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The answer at a path, if it is one of a challenge.
    pub fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PREFIX)?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}
