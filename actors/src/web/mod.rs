//! What every HTTP listener of the house shares: problem documents, request traces, health. Routes live in the services.

pub mod health;
pub mod problem;
pub mod trace;
