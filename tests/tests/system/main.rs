//! The whole system over real parts, which are cut, paused and killed. Hostile requests are in `hostile`.

mod amqp10;
mod kills;
mod mail;
mod outages;
mod parts;
mod pictures;
mod profile;
mod topology;
mod trust;
mod twice;
