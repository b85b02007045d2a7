//! How long somebody waits whose message the broker does not take.

use std::time::Duration;

use orrery_supervise::{Progress, Shutdown};

/// How soon it is seen that the broker takes messages again.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How long somebody waits whose message is not taken.
#[derive(Clone)]
pub struct Patience(Waits);

#[derive(Clone)]
enum Waits {
    Always,
    Until(Progress, Shutdown),
    Never,
}

impl Patience {
    /// An actor's: as long as the broker is short of memory or disk, until the process ends. It tells the watchdog meanwhile that it waits.
    pub fn of(progress: &Progress, shutdown: &Shutdown) -> Self {
        Self(Waits::Until(progress.clone(), shutdown.clone()))
    }

    /// Without end: who has it looks after itself.
    pub(super) const fn always() -> Self {
        Self(Waits::Always)
    }

    /// A command's: no longer than for any other answer.
    pub fn none() -> Self {
        Self(Waits::Never)
    }

    /// Whether to wait on; tells that this is no stall.
    pub(super) fn is_left(&self) -> bool {
        match &self.0 {
            Waits::Always => true,
            Waits::Until(progress, shutdown) => {
                progress.advance();
                !shutdown.is_requested()
            }
            Waits::Never => false,
        }
    }
}
