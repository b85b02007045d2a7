//! What the sender of a trace wants to be passed on (`tracestate`), carried beside the work that it asked for. Where a span is made, that has it as
//! well; this is there where none is: telemetry is off, and what is written because of a request or a message still carries it.

use std::sync::Arc;

use super::Place;

tokio::task_local! {
    static CARRIED: Carried;
}

/// The place of a sender with a `tracestate`, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Carried(Option<Arc<Place>>);

impl Carried {
    /// What the caller runs within.
    #[must_use]
    pub fn current() -> Self {
        CARRIED.try_with(Clone::clone).unwrap_or_default()
    }

    /// That of a sender; nothing where it has no `tracestate`.
    pub(super) fn of(sender: Option<&Place>) -> Self {
        Self(sender.filter(|place| !place.state.is_empty()).cloned().map(Arc::new))
    }

    /// This, or what the caller runs within.
    pub(super) fn or_current(self) -> Self {
        if self.0.is_some() { self } else { Self::current() }
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.0.as_deref().cloned()
    }

    /// Runs a future within it, wherever it is spawned.
    pub fn within<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CARRIED.scope(self, future)
    }
}
