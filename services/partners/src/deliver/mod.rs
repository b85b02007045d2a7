//! Deliveries: the tail of the log (`tail`), which process delivers to which endpoint (`manager`), the worker of one endpoint (`worker`), one try of one event
//! (`attempt`), when the next one is (`schedule`), what is signed (`signature`), and the question before the first (`handshake`).

pub mod attempt;
pub mod handshake;
pub mod manager;
pub mod schedule;
pub mod signature;
pub mod tail;
pub mod worker;
