//! Asynchronous cleaning up from `Drop`, where no runtime can be awaited and a panic would hide the test's own.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// The longest a test's end may wait for one part.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `work` to its end on a thread and a runtime of its own, and says on stderr when it fails: what stays behind
/// has a random name and harms no other test.
pub(crate) fn finish(what: &str, work: impl Future<Output = Result<()>> + Send + 'static) {
    if let Err(error) = ask(work) {
        report(&format!("{what} stays behind: {error:#}"));
    }
}

/// The same for what gives an answer.
pub(crate) fn ask<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let thread = std::thread::spawn(move || -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(LIMIT, work).await.context("out of time")? })
    });
    thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")))
}

/// Says something on stderr, where the test's runner catches and shows it if the test fails.
#[expect(clippy::print_stderr, reason = "a test's report has no other way out of Drop")]
pub(crate) fn report(text: &str) {
    eprintln!("{text}");
}
