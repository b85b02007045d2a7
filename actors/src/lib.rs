//! What every service stands on, as rooms with doors: supervision, the bus, the store, objects, configuration.
//! No service's own rules live here.

pub mod bus;
pub mod clock;
pub mod config;
pub mod objects;
pub mod random;
pub mod seal;
pub mod store;
pub mod supervise;
pub mod web;
