//! The bus: topology, the relay that publishes the outbox, consumers with their four outcomes, the quarantine lane, the archiver of dead letters.
//! The CloudEvents binding is a crate of its own (`cloudevents-amqp`); tables live in `store`.

mod acks;
pub mod archiver;
mod at_work;
pub mod bridge;
mod claims;
pub mod connection;
pub mod consumer;
pub mod delivery;
pub(crate) mod envelope;
pub mod footing;
pub mod handler;
pub mod header;
mod lane;
pub mod management;
pub mod quarantine;
pub mod relay;
pub mod topology;
pub mod trust;

/// The largest message: a larger one is neither published nor decoded.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

pub use connection::{Bus, BusError};
pub use delivery::Delivery;
pub use footing::Footing;
pub use handler::{Failure, Handler, HandlerSpec, Once, Outcome};
