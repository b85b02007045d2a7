//! The gateway before real upstreams on real sockets.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bodies;
mod cache;
mod drain;
mod drawings;
mod encrypted;
mod failures;
mod harness;
mod limits;
mod passing;
mod routes;
mod upstreams;
