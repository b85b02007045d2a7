//! Service providers that operators register: each has domains, upstreams, limits, and what it used. They are kept true by `watch`, read and written
//! by `store`; how a request finds its provider lives in `live`.

mod measured;
mod provider;
mod store;
mod watch;

pub use self::{
    measured::Measured,
    provider::{Call, Provider, Settings},
    watch::Watch,
};
