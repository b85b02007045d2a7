//! The names at the broker that services agree on: exchanges, the queues of a handler, the headers of a message that goes on.
//! What is declared with which arguments lives in `broker-admin`.

pub mod header;
pub mod pattern;

use std::time::Duration;

/// The topic exchange of our own events; the routing key is the event's type. Nobody else may write to it.
pub const EVENTS: &str = "events";

/// The exchange by which foreign events enter from what the operator runs himself. Partners have one each.
pub const INGRESS: &str = "ingress";

/// The topic exchange of what partners send over HTTP; the routing key is the event's type. The service `partners` alone writes to it, what it has checked.
pub const PARTNERS: &str = "partners";

/// The largest message: a larger one is neither published nor decoded.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The dead letters of a handler.
pub fn dead(handler: &str) -> String {
    format!("{handler}.dead")
}

/// The quarantine queue of a handler.
pub fn quarantine(handler: &str) -> String {
    format!("{handler}.quarantine")
}

/// Where a message waits for `delay` before it comes back.
pub fn retry(handler: &str, delay: Duration) -> String {
    format!("{handler}.retry.{}", delay.as_millis())
}
