//! The harness of the system's tests: everything a test needs to run the real binary against real parts and to hurt it.
//! The tests themselves are in `tests/`; what a service does is in the services' crates, never here.
//!
//! | room | what is in it |
//! |---|---|
//! | `world` | one isolated system per test: database, virtual host, object store, mail receiver, a proxy before each |
//! | `world::builder` | how such a world is assembled, and the settings that its services get |
//! | `service` | one `orrery serve` process: spawn, kill, terminate, restart, memory, log |
//! | `process` | any child process with a log file; it never outlives its test |
//! | `proxy` | a TCP proxy that cuts, pauses and withholds answers |
//! | `smtp` | a mail receiver that accepts, refuses, delays and drops by script |
//! | `mail` | one received or captured mail, parsed |
//! | `broker`, `database` | a virtual host and a database per test, and what tests ask them |
//! | `rabbitmq`, `postgres` | a broker and a database server of a test's own, to be killed |
//! | `client`, `person` | a client of the public HTTP API, and the people who sign up by it |
//! | `issuer` | an issuer of access tokens of a test's own |
//! | `partner` | a third party at the broker |
//! | `third_party` | a third party over HTTP: its client secret, its tokens |
//! | `receiver` | a server that is told something over HTTP: it answers, fails, hangs and lies |
//! | `pictures` | good and bad pictures, made by code |
//! | `secrets` | what must never stand in a log or on a page, and the search for it |
//! | `pages` | what a process shows to operators, read when it ends |
//! | `deadline` | waiting on conditions, never on a bare sleep |
//! | `ports` | TCP ports that no other test takes |
//! | `fresh` | names that nobody else has |
//! | `dice` | random choices that a seed repeats |
//! | `environment` | what `./dev test` tells the tests about this machine |
//! | `tls_postgres` | a PostgreSQL server of a test's own with TLS, its certificates and its `pg_hba.conf` |
//! | `teardown` | asynchronous cleaning up from `Drop` |

pub mod broker;
pub mod client;
pub mod database;
pub mod deadline;
pub mod dice;
pub mod environment;
pub mod fresh;
pub mod issuer;
pub mod mail;
mod pages;
pub mod partner;
pub mod person;
pub mod pictures;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rabbitmq;
pub mod receiver;
pub mod redis;
pub mod secrets;
pub mod service;
pub mod smtp;
mod teardown;
pub mod third_party;
pub mod tls_postgres;
pub mod world;

pub use broker::Broker;
pub use client::{Answer, Client, Problem};
pub use database::Database;
pub use deadline::eventually;
pub use dice::Dice;
pub use mail::Mail;
pub use partner::Partner;
pub use person::Person;
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use rabbitmq::RabbitMq;
pub use service::{Memory, Service};
pub use smtp::SmtpReceiver;
pub use tls_postgres::TlsPostgres;
pub use world::builder::WorldBuilder;
pub use world::{Proxies, World};
