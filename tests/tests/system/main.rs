//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod amqp10;
mod backlog;
mod backup;
mod bridges;
mod broker_states;
mod database;
mod demo;
mod encrypted;
mod kills;
mod mail;
mod maily;
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
mod termination;
mod topology;
mod trust;
mod twice;
