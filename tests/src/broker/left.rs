//! Waiting until queues hold nothing at all: neither what is ready nor what a consumer holds.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Broker, vhost};

/// Between two looks. A message that comes back waits in its retry queue for longer.
const POLL: Duration = Duration::from_millis(200);
/// A quorum queue tells how many messages are held every 5 s (`quorum_tick_interval`; seen on 3.10), a classic one at once. Who looks for
/// longer has seen a figure that is newer than his first look.
const REPORTED: Duration = Duration::from_millis(6500);

/// A queue with what it holds, as the broker lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    /// None: the queue has not told of it yet.
    pub(super) unacknowledged: Option<u64>,
}

/// The queues that are meant: some by name, and all that a handler reads.
struct Meant<'a> {
    queues: &'a [&'a str],
    handlers: &'a [&'a str],
}

impl Meant<'_> {
    /// Its own queue, those in which a message waits for its next try, and the quarantine queue. Not its dead letters.
    fn includes(&self, name: &str) -> bool {
        let is_lane = |handler: &&str| {
            let rest = name.strip_prefix(*handler);
            rest.is_some_and(|rest| rest.is_empty() || rest == ".quarantine" || rest.starts_with(".retry."))
        };
        self.queues.contains(&name) || self.handlers.iter().any(is_lane)
    }
}

impl Broker {
    /// Waits until nothing is in a queue, neither ready nor held by a consumer. It takes 6.5 s at least: the broker tells late of what is
    /// held.
    ///
    /// # Errors
    /// Something still is after `deadline`, or the queue is missing, or the broker cannot be asked: the error says which.
    pub async fn wait_empty(&self, queue: &str, deadline: Duration) -> Result<()> {
        self.wait_settled(&[queue], &[], deadline).await
    }

    /// The same for all that a handler reads: its queue, its retry queues and its quarantine queue. What comes back once more is not
    /// overlooked.
    ///
    /// # Errors
    /// As [`Broker::wait_empty`].
    pub async fn wait_handled(&self, handler: &str, deadline: Duration) -> Result<()> {
        self.wait_settled(&[], &[handler], deadline).await
    }

    /// Both for several at once, which takes no longer than one.
    ///
    /// # Errors
    /// As [`Broker::wait_empty`].
    pub async fn wait_settled(&self, queues: &[&str], handlers: &[&str], deadline: Duration) -> Result<()> {
        let (end, meant) = (Instant::now() + deadline, Meant { queues, handlers });
        let mut quiet_since = None;
        let mut last = None;
        loop {
            let begun = Instant::now();
            // A look that fails tells nothing: it is not taken for an empty queue.
            let left = match timeout_at(end, self.left(&meant)).await {
                Ok(Ok(None)) if begun.duration_since(*quiet_since.get_or_insert(begun)) >= REPORTED => {
                    return Ok(());
                }
                Ok(Ok(None)) => None,
                Ok(Ok(Some(left))) => Some(anyhow!(left)),
                Ok(Err(error)) => Some(error),
                // What was seen before says more than that the time is over.
                Err(_) if last.is_some() => None,
                Err(late) => Some(anyhow!(late).context("the broker was asked and did not answer")),
            };
            if left.is_some() {
                quiet_since = None;
                last = left;
            }
            if Instant::now() + POLL >= end {
                let what = [queues, handlers].concat().join(", ");
                let last = last.unwrap_or_else(|| anyhow!("nothing was seen, but not for {REPORTED:?}"));
                return Err(last.context(format!("waited {deadline:?} for nothing to be left in {what}")));
            }
            sleep(POLL).await;
        }
    }

    /// What is left, in words.
    async fn left(&self, meant: &Meant<'_>) -> Result<Option<String>> {
        let listed = vhost::queues(self.management.as_ref(), self.vhost()).await?;
        if let Some(missing) = meant
            .queues
            .iter()
            .chain(meant.handlers)
            .find(|name| !listed.iter().any(|queue| queue.name == **name))
        {
            bail!("there is no queue {missing}")
        }
        for Listed { name, unacknowledged } in listed.iter().filter(|queue| meant.includes(&queue.name)) {
            match unacknowledged {
                Some(0) => {}
                Some(held) => return Ok(Some(format!("{held} unacknowledged in {name}"))),
                None => return Ok(Some(format!("{name} has not told what is unacknowledged"))),
            }
            let ready = self.depth(name).await.context("a depth that cannot be told")?.ready;
            if ready > 0 {
                return Ok(Some(format!("{ready} ready in {name}")));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_its_queue_its_retries_and_its_quarantine_lane() {
        let meant = Meant { queues: &["email"], handlers: &["maily.email"] };
        for name in ["email", "maily.email", "maily.email.retry.2000", "maily.email.quarantine"] {
            assert!(meant.includes(name), "{name}");
        }
        for name in ["maily.email.dead", "maily.emails", "email.retry.1000", "spinoza.images"] {
            assert!(!meant.includes(name), "{name}");
        }
    }
}
