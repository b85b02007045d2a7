//! The console: what the operator sees of queues, dead letters and the outbox, and what may be done to them, as data and as tables.
//! Arguments, questions and terminals are the binary's.

pub mod batches;
pub mod broker;
pub mod figures;
pub mod letter;
pub mod purge;
mod store;
pub mod table;
pub mod text;
