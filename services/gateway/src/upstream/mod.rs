//! The way to replicas in other processes: which there are, which is asked, how a connection to one is made.

mod budget;
mod dial;
mod endpoint;
mod link;
mod pool;
mod probe;
mod resolve;
mod watch;

pub use self::{
    dial::Dial,
    endpoint::{Endpoint, Outstanding},
    link::{Link, LinkError, Tls, connect},
    pool::{Pool, PoolSettings, Unavailable},
    watch::Watch,
};
