//! Supervision: a factory per child; a child that returns, errs or panics is built anew, its neighbours untouched.
//! What the children do lives with them.

mod actor;
pub mod backoff;
mod child;
mod shutdown;

pub use actor::{ActorRef, SendError};
pub use child::{ChildState, ChildStatus, Supervisor};
pub use shutdown::{Shutdown, ShutdownTrigger};
