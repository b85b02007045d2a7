//! Spinoza, the image optimiser: from an uploaded picture to its square variants. Whose they are is autha's business.

pub mod config;
mod keys;
pub mod notifications;
mod optimizer;
mod records;
mod service;

pub use optimizer::spec;
pub use service::{Parts, handler, start};
