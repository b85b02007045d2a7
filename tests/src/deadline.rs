//! Waiting on conditions with a deadline. A test that needs time to pass waits here for what the time should bring.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(25);

/// Asks `look` every 25 ms until it gives a value.
///
/// # Errors
/// Names `what` was waited for when `deadline` has passed; a look that hangs ends with it.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    let end = start + deadline;
    loop {
        let next = Instant::now() + POLL;
        match timeout_at(end, look()).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if next < end => sleep_until(next).await,
            Ok(None) | Err(_) => return Err(anyhow!("waited {:.1?} for {what}", start.elapsed())),
        }
    }
}

/// Waits until `condition` is true: [`eventually`] for a test that needs no value.
///
/// # Errors
/// Names `what` was waited for when `deadline` has passed.
pub async fn until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    eventually(deadline, what, async || condition().await.then_some(())).await
}

/// Watches for the whole of `period` that `condition` stays true: for what must not happen.
///
/// # Errors
/// Names `what` ceased to hold, and when.
pub async fn throughout(
    period: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < period {
        let next = Instant::now() + POLL;
        if !condition().await {
            return Err(anyhow!("after {:.1?} it no longer held that {what}", start.elapsed()));
        }
        sleep_until(next).await;
    }
    Ok(())
}
