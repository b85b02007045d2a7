//! Whether the object store takes what we write, as the last try to write found it. The handler writes here, health reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Writes(Arc<Mutex<Option<String>>>);

impl Writes {
    /// Why it takes none; none as long as it does, as far as is known.
    pub fn refusal(&self) -> Option<String> {
        self.lock().clone()
    }

    /// It took one.
    pub fn are_taken(&self) {
        *self.lock() = None;
    }

    /// It took none.
    pub fn are_refused(&self, reason: String) {
        *self.lock() = Some(reason);
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
