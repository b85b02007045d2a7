//! Partners: third parties publish and subscribe over HTTP. Accounts, mails and pictures are other services' matter; over AMQP partners speak
//! to the broker itself.

mod config;
mod definition;
mod deliver;
mod filter;
mod handler;
mod http;
mod maintenance;
pub mod operator;
mod owner;
mod publish;
mod records;
mod routes;
mod service;
mod shown;
mod targets;
mod token;
mod vault;

pub use config::Config;
pub use definition::{PARTNERS, SERVICE};
