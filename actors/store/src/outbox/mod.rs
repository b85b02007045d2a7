//! The outbox: what a transaction wants to be published, and what became of it. Publishing lives in `orrery_bus::relay`.
//! Here rows are written; `lease` is what a relay asks, `review` what an operator asks, `figures` what both are told.

mod figures;
mod foreign;
mod lease;
mod review;

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::Insertable;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_observability::trace;
use orrery_schemas::{events::EventData, services::ServiceId, topology::EVENTS, trace::TraceParent};
use orrery_supervise::{clock::Clock, random::Random};
use serde_json::Value;
use uuid::Uuid;

use super::{StoreError, schema::outbox};

pub use figures::{COUNTED, Lag, lag};
pub use foreign::Foreign;
pub use lease::{
    BATCH, Place, Row, Settled, lease, may_have_more, prune, refuse, release, renew, settle, suspect,
    suspects, sweep,
};
pub use review::{
    Listed, Which, count, give_up, know_handlers, list, now, replay, replay_unrouted, want, wanted,
};

/// The producer of what an operator has published again; every relay publishes it.
pub const OPERATOR: &str = "operator";

/// Writes rows for one service.
#[derive(Clone)]
pub struct Outbox {
    producer: ServiceId,
    lifetime: Duration,
    clock: Clock,
    random: Random,
}

/// Where a message goes, and whom it concerns.
#[derive(Debug, Clone, Copy, Default)]
pub struct About {
    /// The internal id of the subject.
    pub subject: Option<Uuid>,
    /// The version of the subject's row after the change.
    pub version: Option<i64>,
    /// The trace that the change belongs to.
    pub trace: Option<TraceParent>,
}

// With DEFAULT in place of NULL its text would vary, and it would be parsed anew each time.
#[derive(Insertable)]
#[diesel(table_name = outbox, treat_none_as_default_value = false)]
struct NewRow<'a> {
    id: Uuid,
    producer: &'a str,
    source: &'a str,
    ty: &'a str,
    subject: Option<String>,
    version: Option<i64>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    time: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    exchange: &'a str,
    routing_key: &'a str,
    data: Value,
}

impl Outbox {
    /// Rows of `producer`, wanted for `lifetime`.
    pub fn new(producer: ServiceId, lifetime: Duration, clock: Clock, random: Random) -> Self {
        Self { producer, lifetime, clock, random }
    }

    /// Writes an event for whoever subscribes. Wake the relay after the commit.
    ///
    /// # Errors
    /// When the database refuses, or the data is no JSON.
    pub async fn event<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        data: &T,
        about: About,
    ) -> Result<Uuid, StoreError> {
        self.insert(connection, (EVENTS, T::TYPE), data, about, None).await
    }

    /// Writes a command for the handler that reads `queue`. Wake the relay after the commit.
    ///
    /// # Errors
    /// As `event`.
    pub async fn command<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        queue: &str,
        data: &T,
        about: About,
    ) -> Result<Uuid, StoreError> {
        self.insert(connection, ("", queue), data, about, None).await
    }

    /// Writes a command that is not wanted after `until`, such as a mail whose link has ended by then.
    ///
    /// # Errors
    /// As `event`.
    pub async fn command_until<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        queue: &str,
        data: &T,
        about: About,
        until: Option<DateTime<Utc>>,
    ) -> Result<Uuid, StoreError> {
        self.insert(connection, ("", queue), data, about, until).await
    }

    async fn insert<T: EventData>(
        &self,
        connection: &mut AsyncPgConnection,
        (exchange, routing_key): (&str, &str),
        data: &T,
        about: About,
        until: Option<DateTime<Utc>>,
    ) -> Result<Uuid, StoreError> {
        let time = self.clock.now();
        let id = self.random.uuid_v7(&self.clock);
        let row = NewRow {
            id,
            producer: self.producer.name(),
            source: self.producer.source(),
            ty: T::TYPE,
            subject: about.subject.map(|subject| subject.to_string()),
            version: about.version,
            traceparent: about.trace.map(|trace| trace.to_string()),
            tracestate: about.trace.and_then(|trace| trace::Place::state_of(&trace.trace_id())),
            time,
            expires_at: until.map_or(time + self.lifetime, |until| until.min(time + self.lifetime)),
            exchange,
            routing_key,
            data: serde_json::to_value(data).map_err(|error| {
                StoreError::Query(diesel::result::Error::SerializationError(error.into()))
            })?,
        };
        diesel::insert_into(outbox::table).values(row).execute(connection).await?;
        Ok(id)
    }
}
