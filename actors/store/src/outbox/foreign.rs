//! Rows of events that others made and that we publish for them: their ids, attributes and bytes stay as they came.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Binary, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use super::Outbox;
use crate::{StoreError, prepared::prepared};

/// An event as a message: what it is, and the bytes that leave.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// Its source, for listings.
    pub source: String,
    /// Its type, which is the routing key.
    pub ty: String,
    /// Its subject, for listings.
    pub subject: Option<String>,
    /// When nobody wants it any more; never later than our own events.
    pub until: Option<DateTime<Utc>>,
    /// The media type of the body, if it has one.
    pub content_type: Option<String>,
    /// The headers, a JSON object as `orrery_bus::field_table` writes it.
    pub headers: Value,
    /// The body.
    pub body: Vec<u8>,
}

impl Outbox {
    /// Writes events of others for `exchange`. Wake the relay after the commit.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn foreign(
        &self,
        connection: &mut AsyncPgConnection,
        exchange: &str,
        events: Vec<Foreign>,
    ) -> Result<(), StoreError> {
        let time = self.clock.now();
        let latest = time + self.lifetime;
        let ids: Vec<Uuid> = events.iter().map(|_| self.random.uuid_v7(&self.clock)).collect();
        let until: Vec<DateTime<Utc>> =
            events.iter().map(|event| event.until.map_or(latest, |until| until.min(latest))).collect();
        let mut sources = Vec::with_capacity(events.len());
        let (mut types, mut subjects, mut content_types) = (Vec::new(), Vec::new(), Vec::new());
        let (mut headers, mut bodies) = (Vec::new(), Vec::new());
        for event in events {
            sources.push(event.source);
            types.push(event.ty);
            subjects.push(event.subject);
            content_types.push(event.content_type);
            headers.push(event.headers);
            bodies.push(event.body);
        }
        prepared(
            "INSERT INTO bus.outbox (id, producer, source, type, subject, time, expires_at, exchange, routing_key, data, content_type, headers, body) \
             SELECT id, $2, source, type, subject, $3, until, $4, type, 'null', content_type, headers, body \
             FROM unnest($1, $5, $6, $7, $8, $9, $10, $11) AS event(id, source, type, subject, until, content_type, headers, body)",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(self.producer.name())
        .bind::<Timestamptz, _>(time)
        .bind::<Text, _>(exchange.to_owned())
        .bind::<Array<Text>, _>(sources)
        .bind::<Array<Text>, _>(types)
        .bind::<Array<Nullable<Text>>, _>(subjects)
        .bind::<Array<Timestamptz>, _>(until)
        .bind::<Array<Nullable<Text>>, _>(content_types)
        .bind::<Array<Jsonb>, _>(headers)
        .bind::<Array<Binary>, _>(bodies)
        .execute(connection)
        .await?;
        Ok(())
    }
}
