//! Supervision: a factory per child; a child that returns, errs, panics or makes no progress is built anew, its neighbours untouched; a
//! blocked thread ends the process. What the children do lives with them.

mod actor;
pub mod backoff;
mod child;
mod polls;
mod pulse;
mod shutdown;
#[cfg(test)]
mod tests;
mod threads;
mod watchdog;

pub use actor::{ActorRef, Ping, SendError};
pub use child::{ChildState, ChildStatus, Limits, Supervisor};
pub use polls::Seen;
pub use pulse::{Held, Pulse};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use threads::Threads;
