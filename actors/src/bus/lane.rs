//! The way of one delivery: decode, claim, handle, and where it goes on. Connections, flow and acknowledgements live in `consumer`.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, FixedOffset};
use cloudevents::{AttributesReader, Event};
use futures_util::FutureExt;
use lapin::{BasicProperties, Channel, message::Delivery as Raw};
use orrery_observability::metrics;
use tracing::{Instrument, debug, info, warn};

use super::{
    Bus, BusError, Delivery, Handler, HandlerSpec, MAX_MESSAGE_BYTES, Outcome,
    claims::{self, Claims},
    delivery::trace_of,
    envelope,
    handler::{Failure, Once, PAUSE},
    topology,
};
use crate::{
    clock::Clock,
    random::Random,
    store::{
        StoreError,
        inbox::{Claim, Claimed, MessageKey},
    },
};

/// How soon a message whose claim may end by itself is claimed again.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// How far the clock of whoever wrote an expiry may be behind ours.
const SKEW: Duration = Duration::from_secs(60);

/// What every delivery of a handler shares, in one life of its consumer.
pub struct Lane {
    pub bus: Bus,
    pub handler: Arc<dyn Handler>,
    pub spec: HandlerSpec,
    pub clock: Clock,
    pub random: Random,
    pub claims: Claims,
    /// Where messages are sent on, with confirms.
    pub publish: Channel,
    /// Whether this is the quarantine lane: whatever is in it came back unanswered.
    pub is_quarantine: bool,
}

/// A delivery that is being worked on, and what to undo when it is cut off.
pub struct InFlight {
    raw: Raw,
    claim: Mutex<Option<Claim>>,
}

/// What the consumer does next. In any case the delivery is answered for and to be acknowledged.
#[derive(Debug)]
pub enum Next {
    /// Goes on.
    Continue,
    /// Takes nothing more until the dependency is back.
    Wait(Failure),
}

impl InFlight {
    pub fn new(raw: Raw) -> Self {
        Self { raw, claim: Mutex::new(None) }
    }

    pub fn tag(&self) -> u64 {
        self.raw.delivery_tag
    }

    fn attempt(&self) -> i64 {
        envelope::attempt(&self.raw.properties)
    }

    fn set_claim(&self, claim: Option<Claim>) -> Option<Claim> {
        std::mem::replace(&mut self.claim.lock().unwrap_or_else(PoisonError::into_inner), claim)
    }
}

impl Lane {
    /// Takes one delivery to where it is answered for.
    pub async fn work(&self, delivery: &InFlight) -> Result<Next, BusError> {
        let raw = &delivery.raw;
        if raw.data.len() > MAX_MESSAGE_BYTES {
            let failure = Failure::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes"));
            return self.bury_unread(raw, failure).await;
        }
        let event = match cloudevents_amqp::decode(&raw.properties, &raw.data) {
            Ok(event) => event,
            Err(error) => return self.bury_unread(raw, Failure::of(&error)).await,
        };
        let span = tracing::info_span!(
            "delivery",
            handler = self.spec.name,
            event = event.id(),
            trace = trace_of(&event).map(|trace| trace.trace_id()).unwrap_or_default()
        );
        let began = Instant::now();
        let (answered, next) = self.decoded(delivery, event).instrument(span).await?;
        metrics::delivered(self.spec.name, answered, began.elapsed());
        Ok(next)
    }

    /// What is no event cannot be claimed, and is a dead letter at once.
    async fn bury_unread(&self, raw: &Raw, failure: Failure) -> Result<Next, BusError> {
        self.bury(raw, envelope::attempt(&raw.properties), failure).await?;
        metrics::delivered(self.spec.name, "dead", Duration::ZERO);
        Ok(Next::Continue)
    }

    /// The way of an event; how it was answered for, as the metrics name it.
    async fn decoded(&self, in_flight: &InFlight, event: Event) -> Result<(&'static str, Next), BusError> {
        let (raw, attempt) = (&in_flight.raw, in_flight.attempt());
        if self.is_expired(&event, &raw.properties) {
            self.bury(raw, attempt, Failure::new("the event has expired")).await?;
            return Ok(("dead", Next::Continue));
        }
        let key = MessageKey {
            handler: self.spec.name,
            source: event.source().to_string(),
            id: event.id().to_owned(),
        };
        let claim = Claim { key, token: self.random.uuid_v4() };
        let delivery = Delivery::new(event, attempt, claim);
        let outcome =
            match self.claim_when_free(delivery.claim(), raw.redelivered || self.is_quarantine).await {
                Ok(Claimed::Ours) => {
                    if self.spec.once == Once::Inbox {
                        in_flight.set_claim(Some(delivery.claim().clone()));
                    }
                    self.handle(&delivery).await
                }
                Ok(Claimed::Done) => {
                    info!("delivered again after its effect was done");
                    return Ok(("repeated", Next::Continue));
                }
                Ok(Claimed::Live) => {
                    info!("delivered again while it is worked on: held back");
                    self.hand_back(in_flight).await?;
                    return Ok(("held", Next::Continue));
                }
                Err(outcome) => outcome,
            };
        match outcome {
            Outcome::Done => {
                self.mark_done(in_flight, &delivery).await;
                debug!("done");
                Ok(("done", Next::Continue))
            }
            Outcome::Retry(failure) if attempt == 0 => {
                warn!(reason = failure.reason, causes = ?failure.causes, "failed, is tried once more");
                self.release(in_flight, delivery.is_in_doubt()).await;
                let queue = topology::retry(self.spec.name, self.spec.retry_delay);
                self.forward(raw, &queue, envelope::onward(&raw.properties, 1)).await?;
                Ok(("retry", Next::Continue))
            }
            Outcome::Retry(failure) | Outcome::Reject(failure) => {
                self.release(in_flight, delivery.is_in_doubt()).await;
                self.bury(raw, attempt + 1, failure).await?;
                Ok(("dead", Next::Continue))
            }
            Outcome::Wait(failure) => {
                self.release(in_flight, delivery.is_in_doubt()).await;
                self.hand_back(in_flight).await?;
                Ok(("wait", Next::Wait(failure)))
            }
        }
    }

    /// Hands a message back with its count unchanged: it comes again after a pause.
    pub async fn hand_back(&self, delivery: &InFlight) -> Result<(), BusError> {
        self.release(delivery, false).await;
        let raw = &delivery.raw;
        let properties = envelope::onward(&raw.properties, delivery.attempt());
        self.forward(raw, &topology::retry(self.spec.name, PAUSE), properties).await
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let work = AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind();
        match tokio::time::timeout(self.spec.time_limit, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Retry(Failure::new("the handler panicked")),
            Err(_) => Outcome::Retry(Failure::new(format!(
                "the handler took longer than {:?}",
                self.spec.time_limit
            ))),
        }
    }

    /// Claims a message; one that came back unanswered is held while its claim ends, since whoever had it may have died on it: handed back
    /// it would be a new message, and the broker would forget how often it came back.
    async fn claim_when_free(&self, claim: &Claim, came_back: bool) -> Result<Claimed, Outcome> {
        let began = Instant::now();
        loop {
            let claimed = self.claim(claim).await?;
            if claimed != Claimed::Live || !came_back || began.elapsed() > claims::LEASE + CLAIM_AGAIN {
                return Ok(claimed);
            }
            tokio::time::sleep(CLAIM_AGAIN).await;
        }
    }

    /// Claims; a claim that failed is an outcome of the delivery like any other.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, Outcome> {
        if self.spec.once == Once::ByConstruction {
            return Ok(Claimed::Ours);
        }
        self.claims.claim(claim.clone()).await.map_err(|error| {
            let failure = Failure::of(&*error);
            // A keeper that ended is no fault of the message either: the consumer ends with it.
            let blameless = error.is_outage() || matches!(*error, StoreError::KeeperEnded);
            if blameless { Outcome::Wait(failure) } else { Outcome::Retry(failure) }
        })
    }

    async fn mark_done(&self, in_flight: &InFlight, delivery: &Delivery) {
        if self.spec.once == Once::ByConstruction {
            return;
        }
        if delivery.is_settled() {
            self.claims.forget(delivery.claim().token).await;
        } else {
            self.claims.done(delivery.claim().clone()).await;
        }
        in_flight.set_claim(None);
    }

    async fn release(&self, in_flight: &InFlight, in_doubt: bool) {
        if let Some(claim) = in_flight.set_claim(None) {
            if in_doubt {
                metrics::doubt(self.spec.name);
            }
            self.claims.release(claim, in_doubt).await;
        }
    }

    async fn bury(&self, raw: &Raw, attempts: i64, failure: Failure) -> Result<(), BusError> {
        warn!(reason = failure.reason, causes = ?failure.causes, attempts, "failed for good, is a dead letter");
        let letter = self.random.uuid_v7(&self.clock);
        let properties = envelope::dead(
            &raw.properties,
            attempts.max(1),
            self.spec.name,
            &failure,
            self.clock.now(),
            letter,
        );
        self.forward(raw, &topology::dead(self.spec.name), properties).await
    }

    /// Once this returns, the message is safe in its next queue.
    async fn forward(&self, raw: &Raw, queue: &str, properties: BasicProperties) -> Result<(), BusError> {
        // Boxed, or the future of every delivery would be as large as one that publishes.
        Box::pin(self.bus.publish_to_queue(&self.publish, queue, properties, &raw.data)).await
    }

    fn is_expired(&self, event: &Event, properties: &BasicProperties) -> bool {
        expiry(event, properties).is_some_and(|expiry| expiry < self.clock.now() - SKEW)
    }
}

/// When nobody wants the event any more. The header comes first: a redrive writes it, also beside an event in structured mode, whose body is left as it came.
fn expiry(event: &Event, properties: &BasicProperties) -> Option<DateTime<FixedOffset>> {
    let read = |text: String| DateTime::parse_from_rfc3339(&text).ok();
    let renewed = envelope::text(properties, envelope::EXPIRY).and_then(read);
    renewed.or_else(|| event.extension("expirytime").map(ToString::to_string).and_then(read))
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;
    use cloudevents::{EventBuilder, EventBuilderV10};
    use lapin::types::{AMQPValue, FieldTable};

    use super::*;

    #[test]
    fn a_renewed_expiry_overrules_the_events_own() {
        let event = EventBuilderV10::new()
            .id("1")
            .source("/x")
            .ty("t")
            .extension("expirytime", "2001-01-01T00:00:00Z");
        let event = event.build().unwrap();
        let year = |header: Option<&str>| {
            let mut headers = FieldTable::default();
            if let Some(text) = header {
                headers.insert(envelope::EXPIRY.into(), AMQPValue::LongString(text.into()));
            }
            let properties = BasicProperties::default().with_headers(headers);
            expiry(&event, &properties).map(|expiry| expiry.year())
        };
        assert_eq!(year(None), Some(2001));
        assert_eq!(year(Some("2100-01-01T00:00:00Z")), Some(2100));
        assert_eq!(year(Some("soon")), Some(2001));
    }
}
