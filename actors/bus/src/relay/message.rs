//! A row of the outbox as a message: encoded, or refused because no broker could ever take it.

use cloudevents::{EventBuilder, EventBuilderV10};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use orrery_store::outbox::Row;
use serde_json::Value;

use crate::{Bus, MAX_MESSAGE_BYTES, connection::FRAME_MAX_BYTES, envelope, field_table};

/// The names that a redriven message may carry its expiry by.
const EXPIRY: [&str; 2] = ["cloudEvents_expirytime", envelope::EXPIRY];
/// How the content type of a structured event begins.
const STRUCTURED: &str = "application/cloudevents";
/// What a header frame has besides headers and texts: its own frame, class, weight, size, flags, delivery mode, the table's length.
const HEADER_FRAME_BYTES: usize = 8 + 2 + 2 + 8 + 2 + 1 + 4;

/// Why a row can never be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unpublishable {
    #[error("the {what} has {bytes} bytes, AMQP takes 255")]
    Name { what: &'static str, bytes: usize },
    #[error("it is no CloudEvent: {0}")]
    Event(#[from] cloudevents::event::EventBuilderError),
    #[error("it is no CloudEvent: {0}")]
    Encode(#[from] cloudevents_amqp::EncodeError),
    #[error("its headers are no JSON object of AMQP values: '{0}' is none")]
    Header(String),
    #[error("it has {0} bytes, the limit is {MAX_MESSAGE_BYTES}")]
    Body(usize),
    #[error("its headers have {0} bytes, the limit is {FRAME_MAX_BYTES}")]
    Headers(usize),
}

/// What is published.
pub(super) struct Message {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

/// What a message is known by when the broker returns it: of all rows, no two have the same.
pub(super) fn id(row: &Row) -> String {
    row.id.to_string()
}

/// Encodes a row, whose data and body are taken out of it.
pub(super) fn encode(bus: &Bus, row: &mut Row) -> Result<Message, Unpublishable> {
    let exchange = name("exchange's name", &row.exchange)?;
    let routing_key = name("routing key", &row.routing_key)?;
    if row.is_unread() {
        return Err(Unpublishable::Body(usize::try_from(row.stored_bytes).unwrap_or(usize::MAX)));
    }
    let (properties, body) = match row.body.take() {
        Some(body) => (as_it_was(row)?, body),
        None => {
            let encoded = bus.encode(&event(row)?)?;
            (encoded.properties, encoded.body)
        }
    };
    let header_bytes = header_bytes(&properties);
    if header_bytes > usize::try_from(FRAME_MAX_BYTES).unwrap_or(usize::MAX) {
        return Err(Unpublishable::Headers(header_bytes));
    }
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(Unpublishable::Body(body.len()));
    }
    Ok(Message { exchange, routing_key, properties, body })
}

fn name(what: &'static str, text: &str) -> Result<ShortString, Unpublishable> {
    ShortString::try_new(text).map_err(|_| Unpublishable::Name { what, bytes: text.len() })
}

fn event(row: &mut Row) -> Result<cloudevents::Event, Unpublishable> {
    let mut builder = EventBuilderV10::new()
        .id(id(row))
        .source(&row.source)
        .ty(&row.ty)
        .time(row.time)
        .data("application/json", std::mem::take(&mut row.data))
        .extension("expirytime", row.expires_at.to_rfc3339());
    if let Some(subject) = &row.subject {
        builder = builder.subject(subject);
    }
    if let Some(version) = row.version {
        // Extensions hold 32-bit integers; a version is 64 bits wide.
        builder = builder.extension("version", version.to_string());
    }
    if let Some(trace) = &row.traceparent {
        builder = builder.extension("traceparent", trace.as_str());
    }
    if let Some(state) = &row.tracestate {
        builder = builder.extension("tracestate", state.as_str());
    }
    Ok(builder.build()?)
}

/// The properties of a message that is published again. Only its expiry is new: it is wanted again from now on.
fn as_it_was(row: &Row) -> Result<BasicProperties, Unpublishable> {
    let mut headers = FieldTable::default();
    match &row.headers {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let value = if EXPIRY.iter().any(|expiry| key.eq_ignore_ascii_case(expiry)) {
                    expiry(row)
                } else {
                    field_table::from_json(value).ok_or_else(|| Unpublishable::Header(key.clone()))?
                };
                headers.insert(name("name of a header", key)?, value);
            }
        }
        Some(_) => return Err(Unpublishable::Header("headers".to_owned())),
    }
    if row.content_type.as_deref().is_some_and(is_structured) {
        headers.insert(envelope::EXPIRY.into(), expiry(row));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id(row).into())
        .with_headers(headers);
    if let Some(content_type) = &row.content_type {
        properties = properties.with_content_type(name("content type", content_type)?);
    }
    Ok(properties)
}

/// A structured event's own expiry is in its body, which is left as it came: a header in binary mode's place overrules it.
fn is_structured(content_type: &str) -> bool {
    content_type.get(..STRUCTURED.len()).is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
}

fn expiry(row: &Row) -> AMQPValue {
    AMQPValue::LongString(LongString::from(row.expires_at.to_rfc3339()))
}

/// The bytes of the frame that carries the properties: a broker closes the connection on one that is too large.
fn header_bytes(properties: &BasicProperties) -> usize {
    let texts = [properties.content_type(), properties.message_id(), properties.kind()];
    let texts: usize = texts.into_iter().flatten().map(|text| 1 + text.as_str().len()).sum();
    let headers = properties.headers().as_ref().map_or(0, envelope::header_bytes);
    HEADER_FRAME_BYTES + texts + headers
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use orrery_config::broker::Broker;

    fn row() -> Row {
        Row {
            seq: 1,
            id: Uuid::from_u128(7),
            source: "com.gravitalia.autha".to_owned(),
            ty: "com.gravitalia.account.created.v1".to_owned(),
            subject: Some("somebody".to_owned()),
            version: Some(3),
            traceparent: None,
            tracestate: None,
            time: Utc.timestamp_opt(1_700_000_000, 0).unwrap(),
            expires_at: Utc.timestamp_opt(1_700_600_000, 0).unwrap(),
            exchange: "events".to_owned(),
            routing_key: "com.gravitalia.account.created.v1".to_owned(),
            attempts: 1,
            suspicion: 0,
            content_type: None,
            headers: None,
            stored_bytes: 10,
            data: json!({"account": "a"}),
            body: None,
            backlog: None,
        }
    }

    fn redriven(headers: Value) -> Row {
        Row {
            content_type: Some("text/plain".to_owned()),
            headers: Some(headers),
            body: Some(b"as it was".to_vec()),
            data: Value::Null,
            ..row()
        }
    }

    fn encoded(row: &mut Row) -> Result<Message, Unpublishable> {
        encode(&Bus::new(Broker::default()), row)
    }

    fn fault(mut row: Row) -> String {
        encoded(&mut row).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_event_is_encoded_and_known_by_its_id() {
        let message = encoded(&mut row()).unwrap();
        assert_eq!(message.body, br#"{"account":"a"}"#);
        assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), id(&row()));
        assert_eq!(message.properties.headers().as_ref().unwrap().inner().len(), 8);
    }

    #[test]
    fn a_redriven_message_is_as_it_was_but_for_its_expiry() {
        let headers = json!({"cloudEvents_id": "9", "cloudEvents:expirytime": "2020-01-01T00:00:00Z", "n": 5, "flag": true});
        let message = encoded(&mut redriven(headers)).unwrap();
        assert_eq!(message.body, b"as it was");
        assert_eq!(message.properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        let headers = message.properties.headers().clone().unwrap();
        let headers = headers.inner();
        assert_eq!(headers["cloudEvents_id"], AMQPValue::LongString("9".into()));
        assert_eq!(headers["cloudEvents:expirytime"], expiry(&row()));
        assert_eq!(headers["n"], AMQPValue::LongLongInt(5));
        assert_eq!(headers["flag"], AMQPValue::Boolean(true));
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn only_a_structured_event_gets_an_expiry_that_it_had_not() {
        let message = encoded(&mut redriven(json!({"a": "b"}))).unwrap();
        assert_eq!(message.properties.headers().as_ref().unwrap().inner().len(), 1);
        let structured = Some("Application/CloudEvents+json; charset=utf-8".to_owned());
        let message = encoded(&mut Row { content_type: structured, ..redriven(json!({})) }).unwrap();
        assert_eq!(message.properties.headers().as_ref().unwrap().inner()[envelope::EXPIRY], expiry(&row()));
    }

    #[test]
    fn what_no_broker_takes_is_told_from_what_one_does() {
        assert!(encoded(&mut Row { routing_key: "k".repeat(255), ..row() }).is_ok());
        assert!(fault(Row { routing_key: "k".repeat(256), ..row() }).contains("routing key has 256 bytes"));
        assert!(fault(Row { exchange: "e".repeat(256), ..row() }).contains("exchange"));
        assert!(fault(Row { ty: String::new(), ..row() }).contains("no CloudEvent"));
        assert!(fault(redriven(json!({"nested": {"a": 1}}))).contains("'nested'"));
        assert!(fault(redriven(json!([1]))).contains("headers"));

        let body = |bytes: usize| Row { body: Some(vec![0; bytes]), ..redriven(json!({})) };
        assert!(encoded(&mut body(MAX_MESSAGE_BYTES)).is_ok());
        assert!(fault(body(MAX_MESSAGE_BYTES + 1)).contains("1048577 bytes"));
        assert!(fault(Row { data: json!("x".repeat(MAX_MESSAGE_BYTES)), ..row() }).contains("1048578 bytes"));
        assert!(fault(Row { stored_bytes: 9 * 1024 * 1024, ..row() }).contains("9437184 bytes"));
    }

    #[test]
    fn headers_must_fit_into_one_frame() {
        let text = |bytes: usize| redriven(json!({"h": "x".repeat(bytes)}));
        assert!(encoded(&mut text(16_000)).is_ok());
        assert!(fault(text(16_400)).contains("headers have"));
    }
}
