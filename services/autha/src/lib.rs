//! Autha, the account broker: accounts, tokens, keys, uploads of pictures. Mail and images are other services' work.

pub mod config;

mod account;
mod http;
mod keeper;
mod password;
mod picture;
mod schema;
mod service;
mod token;
mod vault;

pub use picture::results::spec as pictures_spec;
pub use service::{Autha, Parts, StartError, pictures_handler};
pub use token::keys::KeySet;
