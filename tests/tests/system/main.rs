//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod encrypted;
mod bridges;
mod kills;
mod mail;
mod memory;
mod outages;
mod parts;
mod pictures;
mod poison;
mod profile;
mod twice;
