//! Emptying queues of ours. What lies in the table of dead letters is dropped by `batches`.

use lapin::{Connection, options::QueuePurgeOptions};
use orrery_bus::{Bus, BusError, HandlerSpec};
use orrery_schemas::topology;

use crate::broker::{depth, is_retry};

/// Which of a handler's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// The quarantine queue.
    pub quarantine: bool,
    /// All retry queues.
    pub retry: bool,
    /// The dead letters that are not in the table yet.
    pub dead: bool,
}

/// The name is no queue that may be emptied by these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// It belongs to somebody else.
    #[error(
        "'{0}' is no handler and no queue of the enabled services, so it is left alone; the handlers are {1}"
    )]
    Foreign(String, String),
    /// A queue was named together with a kind of queue of a handler.
    #[error("'{0}' names one queue already: leave out --quarantine, --retry and --dead, or name the handler")]
    Twice(String),
}

/// The queues that `name` means: a handler's own queue or its `kinds`, or any one queue of a handler.
///
/// # Errors
/// When it is not ours, or names a queue and kinds at once.
pub fn queues(name: &str, kinds: Kinds, handlers: &[HandlerSpec]) -> Result<Vec<String>, PurgeError> {
    if let Some(spec) = handlers.iter().find(|spec| spec.name == name) {
        let mut queues = Vec::new();
        if kinds.quarantine {
            queues.push(topology::quarantine(name));
        }
        if kinds.retry {
            queues.extend(spec.delays().into_iter().map(|delay| topology::retry(name, delay)));
        }
        if kinds.dead {
            queues.push(topology::dead(name));
        }
        if queues.is_empty() {
            queues.push(name.to_owned());
        }
        return Ok(queues);
    }
    let ours = handlers.iter().any(|spec| {
        name == topology::dead(spec.name)
            || name == topology::quarantine(spec.name)
            || is_retry(name, spec.name)
    });
    match ours {
        true if kinds == Kinds::default() => Ok(vec![name.to_owned()]),
        true => Err(PurgeError::Twice(name.to_owned())),
        false => {
            let known: Vec<_> = handlers.iter().map(|spec| spec.name).collect();
            Err(PurgeError::Foreign(name.to_owned(), known.join(", ")))
        }
    }
}

/// How many messages wait in each of `queues`; one that is missing has none.
///
/// # Errors
/// When the broker is away.
pub async fn waiting(bus: &Bus, connection: &Connection, queues: &[String]) -> Result<Vec<u64>, BusError> {
    let mut waiting = Vec::new();
    for queue in queues {
        waiting.push(depth(bus, connection, queue).await?.map_or(0, |(ready, _)| ready));
    }
    Ok(waiting)
}

/// Throws away what waits in `queue`; what a consumer has in hand stays. Returns how many messages that were.
///
/// # Errors
/// When the broker is away, or the queue is missing.
pub async fn purge(bus: &Bus, connection: &Connection, queue: &str) -> Result<u64, BusError> {
    let work = async {
        let channel = connection.create_channel().await?;
        let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        channel.close(200, "".into()).await?;
        Ok(u64::from(purged))
    };
    tokio::time::timeout(bus.timeout(), work).await.map_err(|_| BusError::Timeout(bus.timeout()))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orrery_bus::Once;

    use super::*;

    fn handlers() -> Vec<HandlerSpec> {
        vec![HandlerSpec {
            name: "maily.email",
            mailbox: orrery_bus::Mailbox::own_work(1),
            retry_delay: Duration::from_secs(1),
            time_limit: Duration::from_secs(1),
            bindings: Vec::new(),
            once: Once::Inbox,
        }]
    }

    #[test]
    fn a_handler_means_its_own_queue_or_the_kinds_named() {
        let handlers = handlers();
        let named = |name, kinds| queues(name, kinds, &handlers);
        assert_eq!(named("maily.email", Kinds::default()).unwrap(), ["maily.email"]);
        let kinds = Kinds { retry: true, dead: true, ..Kinds::default() };
        assert_eq!(
            named("maily.email", kinds).unwrap(),
            ["maily.email.retry.1000", "maily.email.retry.2000", "maily.email.dead"]
        );
        assert!(matches!(named("maily.email.dead", kinds), Err(PurgeError::Twice(_))));
        assert_eq!(
            named("maily.email.retry.77", Kinds::default()).unwrap(),
            ["maily.email.retry.77"],
            "a delay that was changed"
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for name in [
            "",
            "shop.accounts",
            "maily",
            "maily.email.",
            "maily.email.retry.",
            "maily.emails",
            "maily.email.x",
        ] {
            let refused = queues(name, Kinds::default(), &handlers());
            assert!(matches!(refused, Err(PurgeError::Foreign(..))), "{name}: {refused:?}");
        }
    }
}
