//! The edge: the only exposed part. One table of public routes, a streaming reverse proxy behind it, limits before it.
//! It keeps no state of its own and knows nothing of accounts.

mod acme;
mod answer;
mod assets;
mod body;
mod cache;
mod challenges;
pub mod config;
mod cors;
mod definition;
mod edge;
mod end_to_end;
mod forwarded;
mod gateway;
mod limit;
mod listen;
mod live;
mod local;
mod path;
mod providers;
mod proxy;
pub mod routes;
mod served;
mod tunnel;
mod upstream;
mod verify;

pub use crate::{
    definition::SERVICE,
    gateway::{Control, Gateway, Parts, SharedCounts, StartError, check},
    served::{Served, Way},
};
