//! Maily: renders mails and sends them, or keeps them as files. Who gets which mail is decided by whoever writes the command.

pub mod config;
mod handler;
pub mod legacy;
mod render;
mod service;
mod transport;

pub use handler::spec;
pub use service::{Parts, StartError, handler, probe, start};
