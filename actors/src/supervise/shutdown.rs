//! The wish to end, told to every child, and how long they may take.

use std::time::Duration;

use tokio::sync::watch;

/// Tells the children.
#[derive(Clone)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// What a child hears.
#[derive(Clone)]
pub struct Shutdown {
    requested: watch::Receiver<bool>,
    grace: Duration,
}

impl ShutdownTrigger {
    /// A trigger, and what hangs on it.
    pub fn new(grace: Duration) -> (Self, Shutdown) {
        let (sender, requested) = watch::channel(false);
        (Self(sender), Shutdown { requested, grace })
    }

    /// Asks for the end.
    pub fn shutdown(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns when the end is asked for, also when its trigger is gone. May be dropped and called again.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which is an end as well.
        let _gone = self.requested.wait_for(|requested| *requested).await.is_err();
    }

    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// How long what was taken in may take to finish; a margin of the whole grace is kept for what follows.
    pub fn grace(&self) -> Duration {
        self.grace.mul_f64(0.7)
    }
}
