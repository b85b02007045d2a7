//! The gateway before real upstreams on real sockets.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bodies;
mod failures;
mod harness;
mod passing;
