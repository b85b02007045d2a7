//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod amqp10;
mod backlog;
mod bridges;
mod encrypted;
mod kills;
mod mail;
mod memory;
mod operator;
mod outages;
mod outbox;
mod parts;
mod pictures;
mod plans;
mod poison;
mod profile;
mod quarantine;
mod retention;
mod topology;
mod trust;
mod twice;
