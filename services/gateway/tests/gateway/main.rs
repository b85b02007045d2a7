//! The gateway before real upstreams on real sockets.

mod bodies;
mod failures;
mod harness;
mod passing;
