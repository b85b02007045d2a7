//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod amqp10;
mod bridges;
mod encrypted;
mod kills;
mod mail;
mod memory;
mod outages;
mod parts;
mod pictures;
mod poison;
mod profile;
mod topology;
mod trust;
mod twice;
