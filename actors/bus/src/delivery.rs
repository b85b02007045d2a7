//! One message as its handler sees it: the event, which try it is, and the claim that an effect in PostgreSQL settles.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cloudevents::{AttributesReader, Data, Event};
use diesel_async::AsyncPgConnection;
use orrery_observability::trace::Place;
use orrery_schemas::{events::EventData, trace::TraceParent};
use orrery_store::{
    StoreError,
    inbox::{self, Claim},
};

use super::handler::Failure;

/// A message under claim.
pub struct Delivery {
    event: Event,
    /// Tries before this one.
    attempt: i64,
    claim: Claim,
    settled: AtomicBool,
    /// Shared with whoever cuts the try off.
    in_doubt: Arc<AtomicBool>,
}

impl Delivery {
    pub(super) fn new(event: Event, attempt: i64, claim: Claim, in_doubt: Arc<AtomicBool>) -> Self {
        Self { event, attempt, claim, settled: AtomicBool::new(false), in_doubt }
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Its id, as the producer gave it.
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// Tries before this one: 0 or 1.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// The trace that the message belongs to.
    pub fn trace(&self) -> Option<TraceParent> {
        trace_of(&self.event)
    }

    /// Where what this try brings about belongs: below the try where traces are sent, else below the message.
    pub fn place(&self) -> Option<TraceParent> {
        let here = Place::current().and_then(|place| place.parent.parse().ok());
        here.or_else(|| self.trace())
    }

    /// The data, if the event is of the type `T`.
    ///
    /// # Errors
    /// A failure to reject with: another type, or data that does not fit.
    pub fn data<T: EventData>(&self) -> Result<T, Failure> {
        if self.event.ty() != T::TYPE {
            return Err(Failure::new(format!("the event's type is not {}", T::TYPE)));
        }
        let parsed = match self.event.data() {
            Some(Data::Json(value)) => serde_json::from_value(value.clone()),
            Some(Data::Binary(bytes)) => serde_json::from_slice(bytes),
            Some(Data::String(text)) => serde_json::from_str(text),
            None => return Err(Failure::new("the event carries no data")),
        };
        // serde's messages can quote the input, which may hold a name: only the place is told.
        parsed.map_err(|error| {
            Failure::new(format!(
                "the data does not fit {} (line {}, column {})",
                T::TYPE,
                error.line(),
                error.column()
            ))
        })
    }

    /// Marks the effect as done in the transaction that makes it, so that both happen or neither.
    ///
    /// # Errors
    /// When the claim was lost: the transaction must be rolled back.
    pub async fn settle(&self, connection: &mut AsyncPgConnection) -> Result<(), StoreError> {
        inbox::settle(connection, &self.claim).await?;
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Counts that the effect may have happened although this try failed, so that the next one may double it.
    pub fn doubt(&self) {
        self.set_in_doubt(true);
    }

    /// Says whether the effect may have happened as things stand: raised before what cannot be taken back, lowered when it is known how
    /// it ended. A try that is cut off meanwhile is counted, as a try and as a doubt.
    pub fn set_in_doubt(&self, in_doubt: bool) {
        self.in_doubt.store(in_doubt, Ordering::Relaxed);
    }

    /// Whether the handler settled the claim itself.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }
}

pub(super) fn trace_of(event: &Event) -> Option<TraceParent> {
    event.extension("traceparent").and_then(|value| value.to_string().parse().ok())
}
