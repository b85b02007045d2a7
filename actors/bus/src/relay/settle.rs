//! What became of a batch is written down: rows are settled, or given back for another try.

use orrery_observability::metrics;
use orrery_schemas::topology::pattern;
use orrery_store::outbox::{self, Row, Settled};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    Relay,
    batch::{Blame, RowOutcome, blame},
};
use crate::BusError;

/// A row on which the broker closed the channel or the connection so often, at last alone, can never be published.
const MAX_SUSPICION: i16 = 5;

/// The rows of a batch by what is written down of them.
#[derive(Default)]
struct Sorted {
    sent: Vec<i64>,
    /// No queue took them; which of them somebody is meant to get is asked afterwards.
    returned: Vec<(i64, String, String)>,
    refused: Vec<i64>,
    again: Vec<i64>,
    suspects: Vec<i64>,
}

impl Relay {
    /// Writes down what became of the rows; returns what ended the batch early, if anything did.
    pub(super) async fn write_down(
        &self,
        token: Uuid,
        rows: &[Row],
        outcomes: Vec<RowOutcome>,
    ) -> Result<Option<BusError>, BusError> {
        // The error that tells most: a close for a message's sake stands before what followed from it.
        let closed = outcomes.iter().filter_map(|outcome| match outcome {
            RowOutcome::Broken(error) => Some(error),
            _ => None,
        });
        let closed = closed.max_by_key(|error| blame(error) != Blame::Nobody).cloned();
        let is_suspicious = closed.as_ref().is_some_and(|error| blame(error) != Blame::Nobody);
        let mut end = closed.map(BusError::Amqp);
        let (mut sorted, mut newly_refused) = (Sorted::default(), 0_usize);
        let (mut connection, now) = (self.pool.get().await?, self.clock.now());
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                RowOutcome::Sent => {
                    let age = (now - row.time).to_std().unwrap_or_default();
                    metrics::outbox_lag(self.producer.name(), age, row.traceparent.as_deref());
                    sorted.sent.push(row.seq);
                }
                RowOutcome::Unrouted => {
                    debug!(event = %row.id, ty = row.ty, "no queue is bound for it");
                    sorted.returned.push((row.seq, row.exchange.clone(), row.routing_key.clone()));
                }
                RowOutcome::Refused => {
                    newly_refused += usize::from(row.attempts == 1);
                    sorted.refused.push(row.seq);
                }
                RowOutcome::Failed(error) => {
                    warn!(event = %row.id, ty = row.ty, error, "can never be published, kept as failed");
                    outbox::settle(&mut connection, &[row.seq], Settled::Failed, Some(&error)).await?;
                    metrics::relayed(self.producer.name(), "failed", 1);
                }
                RowOutcome::Broken(_) if is_suspicious => sorted.suspects.push(row.seq),
                RowOutcome::Broken(_) | RowOutcome::Doubtful => sorted.again.push(row.seq),
                RowOutcome::Silent => {
                    sorted.again.push(row.seq);
                    end.get_or_insert(BusError::Timeout(self.bus.confirm_timeout()));
                }
            }
        }
        let why = end.as_ref().map(ToString::to_string).unwrap_or_default();
        outbox::settle(&mut connection, &sorted.sent, Settled::Sent, None).await?;
        let wanted =
            if sorted.returned.is_empty() { Vec::new() } else { outbox::wanted(&mut connection).await? };
        // A command is always for somebody; an event only if its kind is.
        let (unrouted, unwanted): (Vec<_>, Vec<_>) =
            sorted.returned.iter().partition(|(_, exchange, key)| {
                exchange.is_empty() || wanted.iter().any(|pattern| pattern::overlap(pattern, key))
            });
        let seqs = |rows: &[&(i64, String, String)]| rows.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>();
        outbox::settle(&mut connection, &seqs(&unrouted), Settled::Unrouted, None).await?;
        outbox::settle(&mut connection, &seqs(&unwanted), Settled::Unwanted, None).await?;
        outbox::refuse(&mut connection, &sorted.refused, token, "the broker refused to keep it").await?;
        outbox::suspect(&mut connection, &sorted.suspects, token, &why).await?;
        outbox::release(&mut connection, &sorted.again, token, &why).await?;
        let producer = self.producer.name();
        metrics::relayed(producer, "sent", sorted.sent.len());
        metrics::relayed(producer, "unrouted", unrouted.len());
        metrics::relayed(producer, "unwanted", unwanted.len());
        metrics::relayed(producer, "refused", sorted.refused.len());
        metrics::relayed(producer, "again", sorted.again.len() + sorted.suspects.len());
        debug!(
            sent = sorted.sent.len(),
            unrouted = unrouted.len(),
            unwanted = unwanted.len(),
            refused = sorted.refused.len(),
            again = sorted.again.len(),
            suspects = sorted.suspects.len(),
            "relayed"
        );
        if newly_refused > 0 {
            warn!(
                rows = newly_refused,
                "refused by the broker, as by a full queue: tried again until it keeps them"
            );
        }
        if end.is_some() {
            let rows = sorted.again.len() + sorted.suspects.len();
            warn!(rows, why, is_suspicious, "not confirmed, published again");
        }
        Ok(end)
    }

    /// The same for a row that was published alone: what the broker says of it is said of it.
    pub(super) async fn write_down_suspect(
        &self,
        token: Uuid,
        row: &Row,
        outcome: RowOutcome,
    ) -> Result<Option<BusError>, BusError> {
        let RowOutcome::Broken(error) = &outcome else {
            return self.write_down(token, std::slice::from_ref(row), vec![outcome]).await;
        };
        let words = error.to_string();
        match blame(error) {
            Blame::Exchange => {
                // Whoever declares it and binds a queue to it has the rows replayed, as with any other that is unrouted.
                debug!(event = %row.id, ty = row.ty, error = words, "its exchange is missing: kept until it is there, or it expires");
                let mut connection = self.pool.get().await?;
                outbox::settle(&mut connection, &[row.seq], Settled::Unrouted, Some(&words)).await?;
            }
            Blame::Message if row.suspicion >= MAX_SUSPICION => {
                warn!(event = %row.id, ty = row.ty, error = words, "can never be published, kept as failed");
                let mut connection = self.pool.get().await?;
                outbox::settle(&mut connection, &[row.seq], Settled::Failed, Some(&words)).await?;
            }
            Blame::Message | Blame::Unclear | Blame::Nobody => {
                return self.write_down(token, std::slice::from_ref(row), vec![outcome]).await;
            }
        }
        Ok(None)
    }
}
