//! The house's side of PostgreSQL: pools, outbox, inbox, dead letters, migrations. A service's own tables live in the service.
//! Query functions take a connection, never a pool.

pub mod connect;
pub mod copy;
pub mod dead_letters;
pub mod follow;
pub mod inbox;
pub mod key_checks;
pub mod migrations;
pub mod outbox;
pub mod pool;
pub mod prepared;
pub mod pruner;
mod schema;
pub mod session;
mod statements;
mod tls;

pub use pool::{Pool, StoreError};
