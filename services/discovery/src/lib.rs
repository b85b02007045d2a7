//! Discovery: peers find each other. Presence, offers and answers between peers, messages for peers that are away; over Phoenix channels, with
//! look-ups beside them. The contract is `docs/discovery.md`. Who somebody is decides autha; what peers say to each other is theirs.

mod config;
mod definition;
mod events;
mod http;
mod link;
mod metrics;
mod name;
mod phoenix;
mod presence;
mod routes;
mod service;
mod socket;
mod store;
mod sweeper;

pub use definition::SERVICE;
