//! Supervision: one kind of actor. A factory builds each life; a bounded mailbox admits, lets wait and refuses; a life that returns, errs,
//! panics or makes no progress is followed by the next one, its neighbours untouched; a blocked thread ends the process. The pattern is
//! explained in `docs/actors.md`; what the actors do lives with them. Time and randomness, which everything is handed, lie beside it.

mod actor;
mod address;
mod arbiter;
pub mod backoff;
pub mod clock;
mod life;
mod mailbox;
mod polls;
mod progress;
pub mod random;
mod record;
mod shutdown;
mod supervisor;
#[cfg(test)]
mod tests;
mod threads;
mod watchdog;

pub use actix::Message;
pub use actor::{Actor, ActorError, Handle, Life, Tick};
pub use address::{ActorRef, SendError};
pub use mailbox::{Admission, Admitted, Mailbox};
pub use polls::Watched;
pub use progress::{Progress, WorkItem};
pub use record::{ActorState, ActorStatus};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use supervisor::{Limits, Supervisor};
pub use threads::{Threads, Work, Worker};

/// The page that explains the pattern; its example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/actors.md")]
struct Page;
