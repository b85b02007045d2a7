//! The way of one delivery: decode, claim, handle, and where it goes on. Connections, flow and acknowledgements live in `consumer`.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, FixedOffset};
use cloudevents::{AttributesReader, Event};
use lapin::{BasicProperties, message::Delivery as Raw};
use orrery_observability::metrics;
use orrery_schemas::topology;
use orrery_store::{
    StoreError,
    inbox::{Claim, Claimed, MessageKey, Release},
};
use orrery_supervise::{Admission, Admitted, Progress, Shutdown, clock::Clock, random::Random};
use tokio::sync::Notify;
use tracing::{Instrument, debug, info, warn};

use super::{
    Bus, BusError, Delivery, Handler, HandlerSpec, MAX_MESSAGE_BYTES, Outcome, Patience,
    claims::{self, Claims},
    delivery::trace_of,
    envelope::{self, MAX_HEADER_BYTES, MAX_ROOMY_BYTES, fitting},
    handler::{Failure, Once, PAUSE},
    spans,
};

/// How soon a message whose claim may end by itself is claimed again.
const CLAIM_AGAIN: Duration = Duration::from_millis(500);

/// How far the clock of whoever wrote an expiry may be behind ours.
const SKEW: Duration = Duration::from_secs(60);

/// What every delivery of a handler shares, in one life of its consumer.
pub struct ConsumerContext {
    pub bus: Bus,
    pub handler: Arc<dyn Handler>,
    pub spec: HandlerSpec,
    pub clock: Clock,
    pub random: Random,
    pub claims: Claims,
    /// The entrance of the handler's mailbox.
    pub mailbox: Admission,
    /// How long a message waits that is sent on.
    pub patience: Patience,
    /// Rung when a message cannot be sent on since a queue of ours is missing.
    pub missing: Notify,
    /// The consumer's.
    pub progress: Progress,
    /// When to end.
    pub shutdown: Shutdown,
    /// Whether this is the quarantine queue: whatever is in it came back unanswered.
    pub is_quarantine: bool,
}

/// A delivery that is being worked on, and what to undo when it is cut off.
pub struct InFlight {
    raw: Raw,
    claim: Mutex<Option<Claim>>,
    /// Whether its effect may have happened, as things stand.
    in_doubt: Arc<AtomicBool>,
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
        Self { raw, claim: Mutex::new(None), in_doubt: Arc::default() }
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

impl ConsumerContext {
    /// Takes one delivery to the handler's mailbox and on to where it is answered for.
    pub async fn work(&self, delivery: &InFlight) -> Result<Next, BusError> {
        let Ok(admitted) = self.mailbox.admit().await else {
            // No more is prefetched than the mailbox takes, so it is closed: the process ends.
            self.release(delivery).await?;
            return Ok(Next::Continue);
        };
        let next = self.admitted(delivery, &admitted).await;
        admitted.done();
        next
    }

    async fn admitted(&self, delivery: &InFlight, admitted: &Admitted) -> Result<Next, BusError> {
        let raw = &delivery.raw;
        if raw.data.len() > MAX_MESSAGE_BYTES {
            let failure = Failure::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes"));
            return self.dead_letter_unread(raw, failure).await;
        }
        // It could neither be tried again nor held back: no frame of ours takes it.
        if envelope::onward_bytes(&raw.properties) > MAX_HEADER_BYTES {
            return self.dead_letter_unread(raw, Failure::new(too_large_headers())).await;
        }
        let event = match cloudevents_amqp::decode(&raw.properties, &raw.data) {
            Ok(event) => event,
            Err(error) => return self.dead_letter_unread(raw, Failure::of(&error)).await,
        };
        let span = tracing::info_span!(
            "delivery",
            handler = self.spec.name,
            event = event.id(),
            trace = trace_of(&event).map(|trace| trace.trace_id()).unwrap_or_default()
        );
        let (began, happened) = (Instant::now(), event.time().copied());
        let traced = span.in_scope(|| spans::working(self.spec.name, &event, delivery.attempt()));
        let work = self.decoded(delivery, event, admitted);
        let (answered, next) = traced.clone().run(work).instrument(span).await?;
        spans::worked(&traced, answered);
        traced.within(|| metrics::delivered(self.spec.name, answered, began.elapsed()));
        if answered == "done"
            && let Some(happened) = happened
        {
            let age = (self.clock.now() - happened.to_utc()).to_std().unwrap_or_default();
            traced.within(|| metrics::event_age(self.spec.name, age));
        }
        Ok(next)
    }

    /// What is no event cannot be claimed, and is a dead letter at once.
    async fn dead_letter_unread(&self, raw: &Raw, failure: Failure) -> Result<Next, BusError> {
        self.dead_letter(raw, envelope::attempt(&raw.properties), failure).await?;
        metrics::delivered(self.spec.name, "dead", Duration::ZERO);
        Ok(Next::Continue)
    }

    /// The way of an event; how it was answered for, as the metrics name it.
    async fn decoded(
        &self,
        in_flight: &InFlight,
        event: Event,
        admitted: &Admitted,
    ) -> Result<(&'static str, Next), BusError> {
        let (raw, attempt) = (&in_flight.raw, in_flight.attempt());
        if self.is_expired(&event, &raw.properties) {
            self.dead_letter(raw, attempt, Failure::new("the event has expired")).await?;
            return Ok(("dead", Next::Continue));
        }
        let key = MessageKey {
            handler: self.spec.name,
            source: event.source().to_string(),
            id: event.id().to_owned(),
        };
        let claim = Claim { key, token: self.random.uuid_v4() };
        let delivery = Delivery::new(event, attempt, claim, Arc::clone(&in_flight.in_doubt));
        let outcome =
            match self.claim_when_free(delivery.claim(), raw.redelivered || self.is_quarantine).await {
                Ok(Claimed::Ours) => {
                    if self.spec.once == Once::Inbox {
                        in_flight.set_claim(Some(delivery.claim().clone()));
                    }
                    self.handle(&delivery, admitted).await
                }
                Ok(Claimed::Done) => {
                    info!("delivered again after its effect was done");
                    return Ok(("repeated", Next::Continue));
                }
                Ok(Claimed::Live) => {
                    info!("delivered again while it is worked on: held back");
                    self.release(in_flight).await?;
                    return Ok(("held", Next::Continue));
                }
                Ok(Claimed::GivenUp) => {
                    // Its letter was written, or is written now; then whoever did it ended before the broker knew.
                    let failure = Failure::new(
                        "its last try is in doubt: it may have happened, and is not tried again",
                    );
                    self.dead_letter(raw, attempt + 1, failure).await?;
                    return Ok(("dead", Next::Continue));
                }
                Err(outcome) => outcome,
            };
        let release = |is_last| Release::after(delivery.is_in_doubt(), is_last);
        match outcome {
            Outcome::Done => {
                self.mark_done(in_flight, &delivery).await;
                debug!("done");
                Ok(("done", Next::Continue))
            }
            Outcome::Retry(failure) if attempt == 0 => {
                warn!(reason = failure.reason, causes = ?failure.causes, "failed, is tried once more");
                self.release_claim(in_flight, release(false)).await;
                let queue = topology::retry(self.spec.name, self.spec.retry_delay);
                self.forward(raw, &queue, envelope::onward(&raw.properties, 1)).await?;
                Ok(("retry", Next::Continue))
            }
            Outcome::Retry(failure) | Outcome::Reject(failure) => {
                self.release_claim(in_flight, release(true)).await;
                self.dead_letter(raw, attempt + 1, failure).await?;
                Ok(("dead", Next::Continue))
            }
            Outcome::Wait(failure) => {
                self.release_claim(in_flight, release(false)).await;
                self.release(in_flight).await?;
                Ok(("wait", Next::Wait(failure)))
            }
            Outcome::Later(failure) => {
                debug!(reason = failure.reason, causes = ?failure.causes, "waits for its turn");
                self.release_claim(in_flight, release(false)).await;
                self.release(in_flight).await?;
                Ok(("wait", Next::Continue))
            }
        }
    }

    /// Hands a message back with its count unchanged: it comes again after a pause.
    pub async fn release(&self, delivery: &InFlight) -> Result<(), BusError> {
        self.release_claim(delivery, Release::Untouched).await;
        let raw = &delivery.raw;
        if envelope::onward_bytes(&raw.properties) > MAX_HEADER_BYTES {
            return self.dead_letter_unread(raw, Failure::new(too_large_headers())).await.map(drop);
        }
        let properties = envelope::onward(&raw.properties, delivery.attempt());
        self.forward(raw, &topology::retry(self.spec.name, PAUSE), properties).await
    }

    /// Answers for a try that was cut off at the end of the grace. One whose effect may have happened counts, or it could happen at every
    /// stop anew; any other comes again uncounted.
    pub async fn cut_off(&self, delivery: &InFlight) -> Result<(), BusError> {
        if !delivery.in_doubt.load(Ordering::Relaxed) {
            return self.release(delivery).await;
        }
        let (raw, attempt) = (&delivery.raw, delivery.attempt());
        self.release_claim(delivery, Release::after(true, attempt > 0)).await;
        let failure = Failure::new(
            "stopped while its effect was under way: it may have happened, so it may come twice",
        );
        if attempt > 0 {
            return self.dead_letter(raw, attempt + 1, failure).await;
        }
        warn!(reason = failure.reason, "cut off, is tried once more");
        let queue = topology::retry(self.spec.name, self.spec.retry_delay);
        self.forward(raw, &queue, envelope::onward(&raw.properties, 1)).await
    }

    async fn handle(&self, delivery: &Delivery, admitted: &Admitted) -> Outcome {
        let work = admitted.run(self.handler.handle(delivery));
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
            // A batcher that ended is no fault of the message either: the consumer ends with it.
            let blameless = error.is_outage() || matches!(*error, StoreError::ClaimsEnded);
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

    async fn release_claim(&self, in_flight: &InFlight, how: Release) {
        if let Some(claim) = in_flight.set_claim(None) {
            if how != Release::Untouched {
                metrics::doubt(self.spec.name);
            }
            self.claims.release(claim, how).await;
        }
    }

    async fn dead_letter(&self, raw: &Raw, attempts: i64, failure: Failure) -> Result<(), BusError> {
        warn!(reason = failure.reason, causes = ?failure.causes, attempts, "failed for good, is a dead letter");
        let letter = self.random.uuid_v7(&self.clock);
        let properties = envelope::dead(
            &fitting(&raw.properties, MAX_ROOMY_BYTES),
            attempts.max(1),
            self.spec.name,
            &failure,
            self.clock.now(),
            letter,
        );
        self.forward(raw, &topology::dead(self.spec.name), properties).await
    }

    /// Once this returns, the message is safe in its next queue. That a queue of ours is missing is no fault of the message: it is held, neither
    /// counted nor given back, until the queue is there.
    async fn forward(&self, raw: &Raw, queue: &str, properties: BasicProperties) -> Result<(), BusError> {
        loop {
            // Boxed, or the future of every delivery would be as large as one that publishes.
            let publish = self.bus.publish_to_queue(&self.patience, queue, properties.clone(), &raw.data);
            match Box::pin(publish).await {
                Err(BusError::Unroutable(_)) if !self.shutdown.is_requested() => {
                    warn!(
                        handler = self.spec.name,
                        queue, "is missing: the message is held until 'orrery migrate' was run"
                    );
                    self.bus.standing().is_missing(queue);
                    self.missing.notify_one();
                    self.progress.advance();
                    tokio::time::sleep(PAUSE).await;
                }
                answered => return answered,
            }
        }
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

fn too_large_headers() -> String {
    format!("the message's headers take more than {MAX_HEADER_BYTES} bytes")
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
