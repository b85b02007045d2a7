//! What health shows of mail: why none gets away, in words that say what to do. Logs have the rest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::error;

/// Shared by the handler, which writes, and health, which reads.
#[derive(Debug, Clone, Default)]
pub struct State(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    fault: Option<String>,
    /// A key that mails were sealed under and that we lack, and when one last came.
    key: Option<(String, Instant)>,
}

/// How long a missing key is shown after a mail last needed it: such a mail comes again every other second.
const KEY_SHOWN: Duration = Duration::from_secs(30);
/// How often it is logged.
const KEY_LOGGED: Duration = Duration::from_secs(60);

impl State {
    /// Why mail waits; none when it gets away, as far as is known.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        let inner = self.lock();
        let key = inner
            .key
            .as_ref()
            .filter(|(_, seen)| seen.elapsed() < KEY_SHOWN)
            .map(|(reason, _)| reason.clone());
        key.or_else(|| inner.fault.clone())
    }

    /// The way out is open.
    pub(crate) fn is_open(&self) {
        self.lock().fault = None;
    }

    /// It is not.
    pub(crate) fn is_closed(&self, reason: &str) {
        self.lock().fault = Some(reason.to_owned());
    }

    /// A mail was sealed under a key that we do not have.
    pub(crate) fn lacks_key(&self, reason: &str) {
        let mut inner = self.lock();
        let is_new = inner.key.as_ref().is_none_or(|(_, seen)| seen.elapsed() > KEY_LOGGED);
        if is_new {
            error!(reason, "mails wait for a key");
        }
        inner.key = Some((reason.to_owned(), Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
