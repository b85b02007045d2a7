//! The messages of both sides: CloudEvents of 1 KiB in binary mode, as the relay writes them, and the same as rows of the outbox.

use anyhow::Result;
use cloudevents::{EventBuilder, EventBuilderV10};
use lapin::BasicProperties;
use orrery_tests::fresh;
use serde_json::{Value, json};

use super::QUEUE;

/// Bytes of the data, all of them JSON.
const BODY_BYTES: usize = 1024;
/// What is not text in it: `{"text":""}`.
const FRAME_BYTES: usize = 11;
const SOURCE: &str = "com.gravitalia.autha";
/// The type of all of them.
pub const TYPE: &str = "com.gravitalia.bench.v1";

/// A message ready to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its properties, headers included.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

/// The data of every message.
pub fn data() -> Value {
    json!({ "text": "x".repeat(BODY_BYTES - FRAME_BYTES) })
}

/// `count` messages, each with an id of its own.
///
/// # Errors
/// None is known.
pub fn make(count: usize) -> Result<Vec<Message>> {
    let data = data();
    (0..count)
        .map(|_| {
            let id = fresh::uuid().to_string();
            let event = EventBuilderV10::new()
                .id(&id)
                .source(SOURCE)
                .ty(TYPE)
                .time("2026-11-21T12:00:00.123456Z")
                .subject(&id)
                .data("application/json", data.clone())
                .extension("expirytime", "2099-12-31T23:59:59+00:00")
                .extension("version", "1")
                .extension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                .build()?;
            let encoded = cloudevents_amqp::encode_binary(&event)?;
            Ok(Message { properties: encoded.properties, body: encoded.body })
        })
        .collect()
}

/// The statement that writes `count` of them as pending rows, with ids in the order of time as services make them (RFC 9562, version 7).
pub fn outbox(count: usize) -> String {
    format!(
        "INSERT INTO bus.outbox \
           (id, producer, source, type, subject, version, traceparent, time, expires_at, exchange, routing_key, data) \
         SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') \
                   || '7' || substr(gen_random_uuid()::text, 16))::uuid, 'autha', '{SOURCE}', '{TYPE}', gen_random_uuid()::text, 1, \
           '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', now(), now() + interval '7 days', '', '{QUEUE}', \
           '{}'::jsonb \
         FROM generate_series(1, {count}); ANALYZE bus.outbox",
        data()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_kibibyte() -> Result<()> {
        let messages = make(2)?;
        assert_eq!(messages[0].body.len(), BODY_BYTES);
        assert_ne!(messages[0].properties.message_id(), messages[1].properties.message_id());
        Ok(())
    }
}
