//! The bus: the relay that publishes the outbox, consumers with their four outcomes, bridges, the quarantine queue, the archiver of dead letters.
//! The CloudEvents binding is a crate of its own (`cloudevents-amqp`); tables live in `orrery-store`, topology and rights in `orrery-broker-admin`.

mod acks;
pub mod archiver;
mod at_work;
pub mod bridge;
mod channels;
mod claims;
pub mod connection;
pub mod consumer;
pub mod delivery;
pub mod dependencies;
mod envelope;
pub mod field_table;
mod frames;
pub mod handler;
mod handling;
mod patience;
mod publishing;
pub mod quarantine;
pub mod relay;
mod spans;
pub mod standing;

pub use connection::{Bus, BusError};
pub use delivery::Delivery;
pub use dependencies::Dependencies;
pub use handler::{Failure, Handler, HandlerSpec, Once, Outcome};
pub use lapin::Connection;
pub use orrery_schemas::topology::MAX_MESSAGE_BYTES;
pub use orrery_supervise::Mailbox;
pub use patience::Patience;
