//! What is known of the queues that this process needs: which are missing or stand otherwise. Who looks is `broker_admin::topology::watch` for
//! all of a process's, and each consumer for its own.

use std::sync::{Arc, Mutex, PoisonError};

use lapin::{Connection, options::QueueDeclareOptions, protocol::AMQPSoftError, types::FieldTable};
use orrery_schemas::topology;
use tokio::sync::Notify;

use super::{Bus, BusError, HandlerSpec, connection::soft};

/// What was found; clones are the same one.
#[derive(Clone, Default)]
pub struct Standing {
    /// `None` until somebody looked.
    faults: Arc<Mutex<Option<Vec<String>>>>,
    bell: Arc<Notify>,
}

impl Standing {
    /// Tells what a look found: a sentence for each queue that is missing or stands otherwise.
    pub fn found(&self, faults: Vec<String>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Some(faults);
    }

    /// Tells that the broker knows no such queue, and has all of them looked at.
    pub fn is_missing(&self, queue: &str) {
        let mut known = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (faults, fault) = (known.get_or_insert_default(), missing_text(queue));
        if !faults.contains(&fault) {
            faults.push(fault);
        }
        drop(known);
        self.bell.notify_one();
    }

    /// Waits until somebody missed a queue.
    pub async fn missed(&self) {
        self.bell.notified().await;
    }

    /// What is wrong; `None` until somebody looked.
    pub fn faults(&self) -> Option<Vec<String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What an operator is told of a queue that is not there.
pub fn missing_text(queue: &str) -> String {
    format!("{queue} is missing: run 'orrery migrate'")
}

/// Every queue of a handler.
pub fn queues(spec: &HandlerSpec) -> Vec<String> {
    let retries = spec.delays().into_iter().map(|delay| topology::retry(spec.name, delay));
    let others = [spec.name.to_owned(), topology::quarantine(spec.name), topology::dead(spec.name)];
    others.into_iter().chain(retries).collect()
}

/// Messages that wait in a queue; `None` when there is no such queue. Asked on a channel of its own, which a refusal costs.
///
/// # Errors
/// When the broker is away, or does not answer in time.
pub async fn waiting(bus: &Bus, connection: &Connection, queue: &str) -> Result<Option<u32>, BusError> {
    let channel = bus.within(connection.create_channel()).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    let asked = bus.within(channel.queue_declare(queue.into(), passive, FieldTable::default())).await;
    match asked {
        Ok(found) => {
            bus.within(channel.close(200, "".into())).await?;
            Ok(Some(found.message_count()))
        }
        Err(BusError::Amqp(error)) if soft(&error) == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first of these queues that is missing.
///
/// # Errors
/// As `waiting`.
pub async fn first_missing(
    bus: &Bus,
    connection: &Connection,
    queues: &[String],
) -> Result<Option<String>, BusError> {
    for queue in queues {
        if waiting(bus, connection, queue).await?.is_none() {
            bus.standing().is_missing(queue);
            return Ok(Some(queue.clone()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_that_is_missed_is_told_once_until_the_next_look() {
        let standing = Standing::default();
        assert_eq!(standing.faults(), None);
        standing.is_missing("maily.email.retry.900000");
        standing.is_missing("maily.email.retry.900000");
        standing.missed().await;
        let told = "maily.email.retry.900000 is missing: run 'orrery migrate'".to_owned();
        assert_eq!(standing.faults(), Some(vec![told]));
        standing.found(Vec::new());
        assert_eq!(standing.faults(), Some(Vec::new()));
    }
}
