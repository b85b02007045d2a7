//! What `orrery migrate` and `orrery check` do to the broker: topology, users and rights, and its management API. How messages travel lives
//! in `orrery-bus`.

pub mod management;
pub mod topology;
pub mod trust;
