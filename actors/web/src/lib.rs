//! What every HTTP listener of the house shares: problem documents, request traces, health, the leave from its clients, tables of routes, the verification of
//! access tokens by autha's published keys. Routes live in the services.

pub mod drain;
pub mod health;
pub mod problem;
pub mod table;
pub mod tokens;
pub mod trace;
