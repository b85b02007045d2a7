//! Autha, the account broker: accounts, sessions, tokens, keys, uploads of pictures. Mail and images are other services' work.

pub mod config;
pub mod operator;
pub mod routes;

mod account;
mod challenge;
mod credential;
mod definition;
mod export;
mod http;
mod import;
mod key;
mod maintenance;
mod password;
mod picture;
mod purger;
mod schema;
mod service;
mod session;
mod stored_time;
mod throttle;
mod token;
mod vault;

pub use definition::{AUTHA, SERVICE};
