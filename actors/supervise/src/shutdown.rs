//! The wish to end, told to every actor, and how long they may take.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Tells the actors.
#[derive(Clone)]
pub struct ShutdownTrigger(watch::Sender<Option<Instant>>);

/// What an actor hears.
#[derive(Clone)]
pub struct Shutdown {
    /// When everything has to be over, once the end is asked for.
    end: watch::Receiver<Option<Instant>>,
}

impl ShutdownTrigger {
    /// A trigger, and what hangs on it.
    pub fn new() -> (Self, Shutdown) {
        let (sender, end) = watch::channel(None);
        (Self(sender), Shutdown { end })
    }

    /// Asks for the end, which has to come within `grace`.
    pub fn shutdown_within(&self, grace: Duration) {
        self.0.send_replace(Some(Instant::now() + grace));
    }
}

impl Shutdown {
    /// Returns when the end is asked for, also when its trigger is gone. May be dropped and called again.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which is an end as well.
        let _gone = self.end.wait_for(Option::is_some).await.is_err();
    }

    /// Whether the end was asked for, or its trigger is gone.
    pub fn is_requested(&self) -> bool {
        self.end.borrow().is_some() || self.end.has_changed().is_err()
    }

    /// How long what was taken in may still take to finish; a margin of what is left is kept for what follows.
    pub fn grace(&self) -> Duration {
        self.left().mul_f64(0.7)
    }

    /// How long everything may still take; nothing before the end is asked for.
    pub fn left(&self) -> Duration {
        let end = *self.end.borrow();
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()))
    }
}
