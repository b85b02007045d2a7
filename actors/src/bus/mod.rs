//! The bus: topology, the relay that publishes the outbox, consumers with their four outcomes, the archiver of dead letters.
//! The CloudEvents binding is a crate of its own (`cloudevents-amqp`); tables live in `store`.

pub mod archiver;
pub mod connection;
pub mod consumer;
pub mod delivery;
pub(crate) mod envelope;
pub mod handler;
mod lane;
pub mod management;
pub mod relay;
pub mod topology;

/// The largest message: a larger one is neither published nor decoded.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

pub use connection::{Bus, BusError};
pub use delivery::Delivery;
pub use handler::{Failure, Handler, HandlerSpec, Outcome};
