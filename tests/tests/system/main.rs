//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod backlog;
mod kills;
mod mail;
mod operator;
mod outages;
mod outbox;
mod parts;
mod pictures;
mod profile;
mod retention;
mod twice;
