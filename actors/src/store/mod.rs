//! The house's side of PostgreSQL: pools, outbox, inbox, dead letters, migrations. A service's own tables live in the service.
//! Query functions take a connection, never a pool.

pub mod connect;
pub mod dead_letters;
pub mod inbox;
pub mod migrations;
pub mod outbox;
pub mod pool;
mod prepared;
pub mod pruner;
mod schema;
mod tls;

pub use pool::{Pool, StoreError};
