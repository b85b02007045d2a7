//! Third parties over HTTP, against real parts: PostgreSQL, RabbitMQ, receivers of the test's own that fail, hang, heal and lie, and the official SDKs.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod admin;
mod beside;
mod dead_letters;
mod failures;
mod handshake;
mod kills;
mod publish;
mod pull;
mod refused;
mod sdks;
mod setting;
mod snippets;
mod subscribe;

use orrery_tests::receiver;
