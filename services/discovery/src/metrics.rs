//! What discovery counts; names and units are in `orrery_observability`. Events are told by a closed set: clients may send any.

use orrery_observability::metrics;

/// A frame came.
pub fn frame(event: &str) {
    metrics::discovery_frame(event);
}

/// A socket was closed.
pub fn closed(why: &'static str) {
    metrics::discovery_closed(why);
}

/// Messages were kept, delivered, or have expired.
pub fn messages(what: &'static str, count: usize) {
    metrics::discovery_messages(what, count);
}
