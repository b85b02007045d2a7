//! What the services say to each other and to the world: ids, event types and their data, problem codes, trace context.
//! No I/O lives here, and nothing that only one service knows.

/// The description of the public routes (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("../openapi.yaml");

/// The description of the messages (AsyncAPI 3.0).
pub const ASYNCAPI: &str = include_str!("../asyncapi.yaml");

pub mod address;
pub mod email;
pub mod events;
pub mod ids;
pub mod problems;
pub mod routes;
pub mod services;
pub mod topology;
pub mod trace;
