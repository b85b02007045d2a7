//! The way of one delivery: decode, claim, handle, and the answer to the broker. Connections and flow live in `consumer`.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloudevents::{AttributesReader, Event};
use futures_util::FutureExt;
use lapin::{Channel, message::Delivery as Raw, options::BasicAckOptions};
use tracing::{Instrument, info, warn};
use uuid::Uuid;

use super::{
    Bus, BusError, Delivery, Handler, HandlerSpec, MAX_MESSAGE_BYTES, Outcome,
    delivery::trace_of,
    envelope,
    handler::{Failure, PAUSE},
    topology,
};
use crate::{
    clock::Clock,
    random::Random,
    store::{
        Pool, StoreError,
        inbox::{self, Claimed, MessageKey},
    },
    supervise::backoff::Backoff,
};

/// How long a claim lasts without being prolonged; what a killed process was at work on waits so long.
const LEASE: Duration = Duration::from_secs(10);

/// What every delivery of a handler shares.
pub struct Lane {
    pub bus: Bus,
    pub pool: Pool,
    pub handler: Arc<dyn Handler>,
    pub spec: HandlerSpec,
    pub clock: Clock,
    pub random: Random,
}

/// A delivery that is being worked on, and what to undo when it is cut off.
pub struct InFlight {
    raw: Raw,
    claim: Mutex<Option<(MessageKey, Uuid)>>,
}

/// What the consumer does next.
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
}

impl Lane {
    /// Takes one delivery to its answer.
    pub async fn work(&self, publish: &Channel, delivery: &InFlight) -> Result<Next, BusError> {
        let raw = &delivery.raw;
        if raw.data.len() > MAX_MESSAGE_BYTES {
            let failure = Failure::new(format!("the message is larger than {MAX_MESSAGE_BYTES} bytes"));
            return self.bury(publish, raw, envelope::attempt(&raw.properties), failure).await;
        }
        let event = match cloudevents_amqp::decode(&raw.properties, &raw.data) {
            Ok(event) => event,
            Err(error) => {
                let attempt = envelope::attempt(&raw.properties);
                return self.bury(publish, raw, attempt, Failure::of(&error)).await;
            }
        };
        let trace = trace_of(&event).map(|trace| trace.trace_id());
        let span = tracing::info_span!(
            "delivery",
            handler = self.spec.name,
            event = event.id(),
            trace = trace.as_deref().unwrap_or_default()
        );
        self.decoded(publish, delivery, event).instrument(span).await
    }

    async fn decoded(&self, publish: &Channel, delivery: &InFlight, event: Event) -> Result<Next, BusError> {
        let raw = &delivery.raw;
        let attempt = envelope::attempt(&raw.properties);
        if self.is_expired(&event) {
            return self.bury(publish, raw, attempt, Failure::new("the event has expired")).await;
        }
        let key = MessageKey {
            handler: self.spec.name,
            source: event.source().to_string(),
            id: event.id().to_owned(),
        };
        let token = self.random.uuid_v4();
        match self.claim(&key, token).await {
            Ok(Claimed::Ours) => {}
            Ok(Claimed::Done) => {
                info!("delivered again after its effect was done");
                raw.acker.ack(BasicAckOptions::default()).await?;
                return Ok(Next::Continue);
            }
            Ok(Claimed::Live) => {
                info!("delivered again while it is worked on: held back");
                return self.hand_back(publish, delivery).await.map(|()| Next::Continue);
            }
            Err(error) => return self.store_failed(publish, delivery, attempt, &error).await,
        }
        *delivery.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some((key.clone(), token));

        let delivered = Delivery::new(event, attempt, key, token);
        let outcome = self.handle(&delivered).await;
        match outcome {
            Outcome::Done => {
                if !delivered.is_settled() {
                    self.record_done(delivered.key()).await;
                }
                raw.acker.ack(BasicAckOptions::default()).await?;
                info!("done");
                Ok(Next::Continue)
            }
            Outcome::Retry(failure) if attempt == 0 => {
                warn!(reason = failure.reason, causes = ?failure.causes, "failed, is tried once more");
                self.release(delivered.key(), token).await;
                let queue = topology::retry(self.spec.name, self.spec.retry_delay);
                self.forward(publish, raw, &queue, envelope::onward(&raw.properties, 1)).await?;
                Ok(Next::Continue)
            }
            Outcome::Retry(failure) | Outcome::Reject(failure) => {
                self.release(delivered.key(), token).await;
                self.bury(publish, raw, attempt + 1, failure).await
            }
            Outcome::Wait(failure) => {
                self.hand_back(publish, delivery).await?;
                Ok(Next::Wait(failure))
            }
        }
    }

    /// Hands a message back with its count unchanged: it comes again after a pause.
    pub async fn hand_back(&self, publish: &Channel, delivery: &InFlight) -> Result<(), BusError> {
        let claim = delivery.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((key, token)) = claim {
            self.release(&key, token).await;
        }
        let raw = &delivery.raw;
        let queue = topology::retry(self.spec.name, PAUSE);
        let properties = envelope::onward(&raw.properties, envelope::attempt(&raw.properties));
        self.forward(publish, raw, &queue, properties).await
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let work = AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind();
        let result = tokio::select! {
            result = tokio::time::timeout(self.spec.time_limit, work) => result,
            never = self.keep_claim(delivery) => match never {},
        };
        match result {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Retry(Failure::new("the handler panicked")),
            Err(_) => Outcome::Retry(Failure::new(format!(
                "the handler took longer than {:?}",
                self.spec.time_limit
            ))),
        }
    }

    /// Prolongs the claim while its message is worked on; a killed process's claims end soon.
    async fn keep_claim(&self, delivery: &Delivery) -> Infallible {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let renewal = async {
                let mut connection = self.pool.get().await?;
                inbox::renew(&mut connection, delivery.key(), delivery.token(), LEASE.as_secs_f64()).await
            };
            // A claim that is lost costs nothing here: an effect in the database rolls back at its mark.
            if let Ok(Err(error)) = tokio::time::timeout(LEASE / 3, renewal).await {
                warn!(%error, "the claim could not be prolonged");
            }
        }
    }

    async fn claim(&self, key: &MessageKey, token: Uuid) -> Result<Claimed, StoreError> {
        let mut connection = self.pool.get().await?;
        let ask = inbox::claim(&mut connection, key, token, LEASE.as_secs_f64());
        tokio::time::timeout(self.spec.time_limit, ask)
            .await
            .unwrap_or(Err(StoreError::Silent(self.spec.time_limit)))
    }

    async fn store_failed(
        &self,
        publish: &Channel,
        delivery: &InFlight,
        attempt: i64,
        error: &StoreError,
    ) -> Result<Next, BusError> {
        let failure = Failure::of(error);
        if error.is_outage() {
            self.hand_back(publish, delivery).await?;
            return Ok(Next::Wait(failure));
        }
        let raw = &delivery.raw;
        if attempt == 0 {
            let queue = topology::retry(self.spec.name, self.spec.retry_delay);
            self.forward(publish, raw, &queue, envelope::onward(&raw.properties, 1)).await?;
            return Ok(Next::Continue);
        }
        self.bury(publish, raw, attempt + 1, failure).await
    }

    /// Writes down that the effect happened; while the database is away the delivery is held, since handing it back would double it.
    async fn record_done(&self, key: &MessageKey) {
        let mut backoff = Backoff::dependency();
        loop {
            let written = async {
                let mut connection = self.pool.get().await?;
                inbox::record_done(&mut connection, key).await
            };
            match tokio::time::timeout(self.spec.time_limit, written).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => warn!(%error, "the effect happened and is not written down yet"),
                Err(_) => {
                    warn!("the effect happened and is not written down yet: no answer from the database")
                }
            }
            tokio::time::sleep(backoff.next(&self.random)).await;
        }
    }

    /// Gives the claim back. A failure costs only time: the lease ends by itself.
    async fn release(&self, key: &MessageKey, token: Uuid) {
        let release = async {
            let mut connection = self.pool.get().await?;
            inbox::release(&mut connection, key, token).await
        };
        match tokio::time::timeout(self.spec.time_limit, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the claim was not given back, it ends by itself"),
            Err(_) => warn!("the claim was not given back, it ends by itself"),
        }
    }

    async fn bury(
        &self,
        publish: &Channel,
        raw: &Raw,
        attempts: i64,
        failure: Failure,
    ) -> Result<Next, BusError> {
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
        self.forward(publish, raw, &topology::dead(self.spec.name), properties).await?;
        Ok(Next::Continue)
    }

    async fn forward(
        &self,
        publish: &Channel,
        raw: &Raw,
        queue: &str,
        properties: lapin::BasicProperties,
    ) -> Result<(), BusError> {
        self.bus.publish_to_queue(publish, queue, properties, &raw.data).await?;
        raw.acker.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    fn is_expired(&self, event: &Event) -> bool {
        event
            .extension("expirytime")
            .and_then(|value| chrono::DateTime::parse_from_rfc3339(&value.to_string()).ok())
            .is_some_and(|expiry| expiry < self.clock.now())
    }
}
