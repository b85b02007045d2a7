//! The headers of a message that goes on: to a retry queue or to the dead letters. Encoding of events lives in `cloudevents-amqp`.

use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString},
};
use uuid::Uuid;

use super::handler::Failure;

/// When a redriven event in structured mode expires, in place of what its body says.
pub const EXPIRY: &str = "cloudEvents:expirytime";
/// Whom RabbitMQ sends a copy to, whatever the exchange: whoever may write here must not write there in our name.
pub const COPIES: [&str; 2] = ["CC", "BCC"];
pub use orrery_schemas::topology::header::{AMQP10, ATTEMPT, CAUSES, FAILED_AT, HANDLER, LETTER, REASON};

/// A header must fit into one frame, and an error of a library may be long.
const MAX_TEXT_BYTES: usize = 500;
/// Causes that are kept; the innermost ones of a longer chain are left out.
const MAX_CAUSES: usize = 8;

fn clipped(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text)
}

/// Tries that the message has behind it.
pub fn attempt(properties: &BasicProperties) -> i64 {
    properties.headers().as_ref().and_then(|headers| headers.inner().get(ATTEMPT)).map_or(0, |value| {
        match value {
            AMQPValue::LongLongInt(n) => *n,
            AMQPValue::LongInt(n) => i64::from(*n),
            AMQPValue::ShortInt(n) => i64::from(*n),
            AMQPValue::ShortShortInt(n) => i64::from(*n),
            _ => 0,
        }
    })
}

/// The text of a header.
pub fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The message's properties for its next queue: what the broker added (`x-*`), copies and the old expiration are dropped.
pub fn onward(properties: &BasicProperties, attempt: i64) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(|headers| headers.inner()) {
        let text = name.as_str();
        if (!text.starts_with("x-") || text == AMQP10) && !COPIES.contains(&text) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt(attempt));
    let mut next = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    if let Some(value) = properties.content_type() {
        next = next.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        next = next.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.message_id() {
        next = next.with_message_id(value.clone());
    }
    if let Some(value) = properties.kind() {
        next = next.with_type(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        next = next.with_timestamp(*value);
    }
    next
}

/// What the headers would take of a message that goes on.
pub fn onward_bytes(properties: &BasicProperties) -> usize {
    let all = properties.headers().as_ref().map_or(0, header_bytes);
    // What the broker added is dropped; an ordinary message is not copied for this.
    if all <= MAX_HEADER_BYTES {
        all
    } else {
        onward(properties, 0).headers().as_ref().map_or(0, header_bytes)
    }
}

/// The same, with why it failed.
pub fn dead(
    properties: &BasicProperties,
    attempts: i64,
    handler: &str,
    failure: &Failure,
    at: DateTime<Utc>,
    letter: Uuid,
) -> BasicProperties {
    let mut next = onward(properties, attempts);
    let mut headers = next.headers().clone().unwrap_or_default();
    let mut put = |name: &str, value: String| {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    let causes: Vec<_> = failure.causes.iter().take(MAX_CAUSES).map(|cause| clipped(cause)).collect();
    put(REASON, clipped(&failure.reason).to_owned());
    put(CAUSES, serde_json::Value::from(causes).to_string());
    put(FAILED_AT, at.to_rfc3339_opts(SecondsFormat::Micros, true));
    put(HANDLER, handler.to_owned());
    put(LETTER, letter.to_string());
    next = next.with_headers(headers);
    next
}

/// What the headers of a message may take together when it goes on: they travel in one frame of ours, and a publish that breaks its connection
/// would be begun for ever.
pub const MAX_HEADER_BYTES: usize = 15 * 1024;
/// The same before the reason for a dead letter is put with them.
pub const MAX_ROOMY_BYTES: usize = 8 * 1024;

/// The properties of a message that goes on, without headers that take more than that: a publisher's frames may be larger than ours.
pub fn fitting(properties: &BasicProperties, most: usize) -> BasicProperties {
    match properties.headers() {
        Some(headers) if header_bytes(headers) > most => {
            properties.clone().with_headers(FieldTable::default())
        }
        _ => properties.clone(),
    }
}

/// What headers take in their frame, at most: no value that is neither text nor nested has more than eight bytes.
pub fn header_bytes(headers: &FieldTable) -> usize {
    headers.inner().iter().map(|(name, value)| 1 + name.as_str().len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AMQPValue) -> usize {
    5 + match value {
        AMQPValue::ShortString(text) => text.as_str().len(),
        AMQPValue::LongString(text) => text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_bytes).sum(),
        AMQPValue::FieldTable(table) => header_bytes(table),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_still_fits_into_one_frame() {
        let failure = Failure { reason: "é".repeat(50_000), causes: vec!["x".repeat(50_000); 50] };
        let clock = orrery_supervise::clock::Clock::System;
        let next = dead(&BasicProperties::default(), 2, "h", &failure, clock.now(), Uuid::nil());
        let length = |name| text(&next, name).unwrap().len();
        assert!(length(REASON) + length(CAUSES) < 8 * 1024);
    }

    #[test]
    fn what_the_broker_added_and_copies_are_dropped_and_the_attempt_is_set() {
        let mut headers = FieldTable::default();
        for name in COPIES {
            headers.insert(name.into(), AMQPValue::FieldArray(Vec::new().into()));
        }
        headers.insert("x-death".into(), AMQPValue::LongLongInt(1));
        headers.insert("cloudEvents_id".into(), AMQPValue::LongString("1".into()));
        let properties = BasicProperties::default().with_headers(headers).with_expiration("5".into());
        let next = onward(&properties, 1);
        assert_eq!(attempt(&next), 1);
        assert_eq!(next.expiration(), &None);
        let names: Vec<_> =
            next.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["attempt", "cloudEvents_id"]);
    }

    #[test]
    fn headers_that_leave_no_room_for_the_reason_are_dropped() {
        let with = |value: AMQPValue| {
            let mut headers = FieldTable::default();
            headers.insert("x".into(), value);
            fitting(
                &BasicProperties::default().with_content_type("a/b".into()).with_headers(headers),
                MAX_ROOMY_BYTES,
            )
        };
        let kept = |properties: &BasicProperties| properties.headers().as_ref().unwrap().inner().len();
        assert_eq!(kept(&with(AMQPValue::LongString("short".into()))), 1);
        let long = || AMQPValue::LongString("x".repeat(MAX_ROOMY_BYTES).into());
        for value in [long(), AMQPValue::FieldArray(vec![long()].into())] {
            let properties = with(value);
            assert_eq!((kept(&properties), properties.content_type().is_some()), (0, true));
        }
    }
}
