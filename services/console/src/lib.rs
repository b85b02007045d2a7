//! The console: what the operator sees of queues, dead letters and the outbox, and what may be done to them, as data, as tables for a terminal, and as pages.
//! Arguments, questions and terminals are the binary's.

pub mod access;
mod accounts;
mod alerts;
pub mod audit;
pub mod batches;
pub mod broker;
mod chart;
mod client;
pub mod config;
mod definition;
pub mod figures;
mod history;
mod http;
mod jobs;
pub mod letter;
mod mails;
mod observer;
pub mod operator;
mod processes;
pub mod providers;
pub mod purge;
mod service;
mod snapshot;
mod store;
pub mod table;
pub mod text;

pub use definition::{CONSOLE, SERVICE};
