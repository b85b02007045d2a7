//! From an event to a message. Where it goes, and everything about delivery but its persistence, is the publisher's.

use cloudevents::{AttributesReader, Data, Event, event::ExtensionValue};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    amqp10,
    draft::rfc3339,
    error::{DataError, EncodeError, Invalid, Problem},
    header::header_name,
    media, structured,
    validate::{integer, validate},
};

/// AMQP's delivery mode for a message that survives the broker's restart.
const PERSISTENT: u8 = 2;

/// The content type of an event in structured mode.
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

/// A message that carries one event, ready for lapin's `basic_publish`.
///
/// # Examples
/// What this crate leaves open is the publisher's to set:
/// ```
/// use cloudevents::{EventBuilder, EventBuilderV10};
/// use cloudevents_amqp::{Encoded, encode_binary};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = EventBuilderV10::new().id("1").source("/shop").ty("com.example.ping").build()?;
/// let Encoded { properties, body } = encode_binary(&event)?;
/// assert_eq!(properties.delivery_mode(), &Some(2));
/// let properties = properties.with_expiration("60000".into());
/// // channel.basic_publish(exchange, event.ty().into(), options, &body, properties).await?
/// # assert!(body.is_empty() && properties.expiration().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Content type, headers, `message_id`, `type` and delivery mode 2 (persistent); `timestamp` and the rest are not set.
    pub properties: BasicProperties,
    /// The body, in bytes.
    pub body: Vec<u8>,
}

impl Encoded {
    /// The same with its attributes said once more, as application-properties of AMQP 1.0: RabbitMQ 3 shows an AMQP 1.0 receiver no
    /// headers. RabbitMQ 4 needs no such. A structured message has no attributes outside, and stays as it is.
    #[must_use]
    pub fn for_amqp10(mut self) -> Self {
        if let Some(mut headers) = self.properties.headers().clone() {
            headers.insert(amqp10::HEADER.into(), amqp10::write(&headers));
            self.properties = self.properties.with_headers(headers);
        }
        self
    }
}

/// Writes an event in binary mode: attributes as headers `cloudEvents_<name>`, data as the body, `datacontenttype` as content type.
///
/// `time` is RFC 3339 text in UTC, since AMQP 0.9.1's timestamp has whole seconds only; integers are AMQP's signed 32 bits.
/// JSON data without a content type gets `application/json`. `message_id` and `type` repeat the event's where they fit 255 bytes.
/// An event without data and one with empty data give the same empty body. Headers travel in one frame: what they take together must
/// stay under the connection's `frame_max`, which this crate does not know.
///
/// # Errors
/// [`EncodeError::Invalid`] as in [`validate`], and for a content type or a header's name above 255 bytes or a `datacontenttype` that
/// would be read as structured mode; [`EncodeError::Data`] when the content type is JSON's and the data, text or bytes, is not JSON.
///
/// Source: CloudEvents AMQP binding 1.0.2, section 3.1.
///
/// # Examples
/// ```
/// use cloudevents::{EventBuilder, EventBuilderV10};
/// use cloudevents_amqp::{EncodeError, encode_binary};
/// use lapin::types::AMQPValue;
/// use serde_json::json;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = EventBuilderV10::new().id("1").source("/shop").ty("com.example.order.v1");
/// let event = builder.clone().extension("retries", 3).data("application/json", json!({"total": 42})).build()?;
/// let message = encode_binary(&event)?;
/// assert_eq!(message.body, br#"{"total":42}"#);
/// assert_eq!(message.properties.content_type().as_ref().map(|it| it.as_str()), Some("application/json"));
/// let headers = message.properties.headers().as_ref().ok_or("no headers")?.inner();
/// assert_eq!(headers.get("cloudEvents_type"), Some(&AMQPValue::LongString("com.example.order.v1".into())));
/// assert_eq!(headers.get("cloudEvents_retries"), Some(&AMQPValue::LongInt(3)));
///
/// let broken = builder.data("application/json", "no json").build()?;
/// assert!(matches!(encode_binary(&broken), Err(EncodeError::Data(_))));
/// # Ok(())
/// # }
/// ```
pub fn encode_binary(event: &Event) -> Result<Encoded, EncodeError> {
    validate(event)?;
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: AMQPValue| -> Result<(), Invalid> {
        let header = ShortString::try_new(header_name(name))
            .map_err(|_| Invalid::attribute(name, Problem::TooLong))?;
        headers.insert(header, value);
        Ok(())
    };
    put("specversion", text(event.specversion().as_str()))?;
    put("id", text(event.id()))?;
    put("source", text(event.source()))?;
    put("type", text(event.ty()))?;
    if let Some(subject) = event.subject() {
        put("subject", text(subject))?;
    }
    if let Some(schema) = event.dataschema() {
        put("dataschema", text(schema.as_str()))?;
    }
    if let Some(time) = event.time() {
        put("time", text(&rfc3339(time)))?;
    }
    for (name, value) in event.iter_extensions() {
        let value = match value {
            ExtensionValue::String(value) => text(value),
            ExtensionValue::Boolean(value) => AMQPValue::Boolean(*value),
            ExtensionValue::Integer(value) => AMQPValue::LongInt(integer(name, *value)?),
        };
        put(name, value)?;
    }
    let mut properties = properties(event).with_headers(headers);
    if let Some(content_type) = content_type(event)? {
        properties = properties.with_content_type(content_type);
    }
    Ok(Encoded { properties, body: body(event)? })
}

/// Writes an event in structured mode: all of it as JSON in the body, content type `application/cloudevents+json; charset=utf-8`.
///
/// `message_id`, `type` and delivery mode are set as in binary mode; there are no headers. Bytes travel as `data_base64`, and so does
/// text without a content type, which would otherwise be read as JSON.
///
/// # Errors
/// [`EncodeError::Invalid`] as in [`validate`]; [`EncodeError::Data`] when the content type is JSON's and the data is text that is not
/// JSON.
///
/// Source: CloudEvents AMQP binding 1.0.2, section 3.2, and JSON format 1.0.2.
///
/// # Examples
/// ```
/// use cloudevents::{EventBuilder, EventBuilderV10};
/// use cloudevents_amqp::encode_structured;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = EventBuilderV10::new().id("1").source("/shop").ty("com.example.ping").data("text/plain", "hello").build()?;
/// let message = encode_structured(&event)?;
/// let body: serde_json::Value = serde_json::from_slice(&message.body)?;
/// assert_eq!((&body["id"], &body["data"]), (&"1".into(), &"hello".into()));
/// assert!(message.properties.headers().is_none());
/// # Ok(())
/// # }
/// ```
pub fn encode_structured(event: &Event) -> Result<Encoded, EncodeError> {
    validate(event)?;
    let body = structured::write(event)?;
    Ok(Encoded { properties: properties(event).with_content_type(STRUCTURED.into()), body })
}

/// What both modes set. The event's own attributes are the truth; these two are for eyes and tools that know only AMQP, so an id that is
/// too long for them is left out rather than cut.
fn properties(event: &Event) -> BasicProperties {
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Ok(id) = ShortString::try_new(event.id()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(ty) = ShortString::try_new(event.ty()) {
        properties = properties.with_type(ty);
    }
    properties
}

fn content_type(event: &Event) -> Result<Option<ShortString>, Invalid> {
    let content_type = match (event.datacontenttype(), event.data()) {
        (Some(content_type), _) => content_type,
        (None, Some(Data::Json(_))) => "application/json",
        (None, _) => return Ok(None),
    };
    if media::mode(content_type) != media::Mode::Binary {
        return Err(Invalid::attribute("datacontenttype", Problem::EventFormat));
    }
    ShortString::try_new(content_type)
        .map(Some)
        .map_err(|_| Invalid::attribute("datacontenttype", Problem::TooLong))
}

/// The data's bytes. What a reader will have to parse is parsed here first: a message that nobody can read must not leave.
fn body(event: &Event) -> Result<Vec<u8>, DataError> {
    let bytes = match event.data() {
        None => return Ok(Vec::new()),
        Some(Data::Json(value)) => return serde_json::to_vec(value).map_err(DataError::Json),
        Some(Data::Binary(bytes)) => bytes.as_slice(),
        Some(Data::String(text)) => text.as_bytes(),
    };
    if event.datacontenttype().is_some_and(media::is_json) {
        serde_json::from_slice::<serde_json::Value>(bytes).map_err(DataError::Json)?;
    }
    Ok(bytes.to_vec())
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[cfg(test)]
mod tests {

    use cloudevents::{AttributesWriter, EventBuilder, EventBuilderV03, EventBuilderV10};
    use serde_json::json;

    use super::*;

    fn builder() -> EventBuilderV10 {
        EventBuilderV10::new().id("1").source("/orrery").ty("com.example.x.v1")
    }

    fn header<'a>(encoded: &'a Encoded, name: &str) -> Option<&'a AMQPValue> {
        encoded.properties.headers().as_ref()?.inner().get(name)
    }

    fn long(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    fn problem(result: Result<Encoded, EncodeError>) -> Option<(String, Problem)> {
        match result {
            Err(EncodeError::Invalid(Invalid::Attribute { name, problem })) => Some((name, problem)),
            _ => None,
        }
    }

    #[test]
    fn attributes_become_headers_of_their_types() {
        let event = builder()
            .subject("é")
            .time("2018-04-05T17:31:00.123456789Z")
            .extension("traceparent", "00-1-2-03")
            .extension("flag", true)
            .extension("count", -7)
            .data_with_schema("text/plain", "https://example.com/s", "hello")
            .build()
            .unwrap();
        let encoded = encode_binary(&event).unwrap();
        let expected = [
            ("cloudEvents_specversion", long("1.0")),
            ("cloudEvents_id", long("1")),
            ("cloudEvents_source", long("/orrery")),
            ("cloudEvents_type", long("com.example.x.v1")),
            ("cloudEvents_subject", long("é")),
            ("cloudEvents_dataschema", long("https://example.com/s")),
            ("cloudEvents_time", long("2018-04-05T17:31:00.123456789Z")),
            ("cloudEvents_traceparent", long("00-1-2-03")),
            ("cloudEvents_flag", AMQPValue::Boolean(true)),
            ("cloudEvents_count", AMQPValue::LongInt(-7)),
        ];
        for (name, value) in &expected {
            assert_eq!(header(&encoded, name), Some(value), "{name}");
        }
        assert_eq!(encoded.properties.headers().as_ref().unwrap().inner().len(), expected.len());
        assert_eq!(encoded.properties.content_type(), &Some("text/plain".into()));
        assert_eq!(encoded.body, b"hello");
    }

    #[test]
    fn both_modes_are_persistent_and_name_the_event() {
        let event = builder().build().unwrap();
        for encoded in [encode_binary(&event).unwrap(), encode_structured(&event).unwrap()] {
            assert_eq!(encoded.properties.delivery_mode(), &Some(2));
            assert_eq!(encoded.properties.message_id(), &Some("1".into()));
            assert_eq!(encoded.properties.kind(), &Some("com.example.x.v1".into()));
            assert_eq!(encoded.properties.timestamp(), &None);
        }
    }

    #[test]
    fn a_long_id_travels_in_its_header_alone() {
        let long_id = "é".repeat(200);
        let event = builder().id(long_id.clone()).build().unwrap();
        let encoded = encode_binary(&event).unwrap();
        assert_eq!(encoded.properties.message_id(), &None);
        assert_eq!(header(&encoded, "cloudEvents_id"), Some(&long(&long_id)));
        assert_eq!(encode_structured(&event).unwrap().properties.message_id(), &None);
    }

    #[test]
    fn json_without_a_content_type_is_declared_as_json() {
        let mut event = builder().build().unwrap();
        event.set_data_unchecked(json!({"a": 1}));
        let encoded = encode_binary(&event).unwrap();
        assert_eq!(encoded.properties.content_type(), &Some("application/json".into()));
        assert_eq!(encoded.body, br#"{"a":1}"#);
        event.set_data_unchecked(b"x".to_vec());
        assert_eq!(encode_binary(&event).unwrap().properties.content_type(), &None);
    }

    #[test]
    fn structured_is_one_json_object_without_headers() {
        let event = builder().data("application/json", json!({"a": 1})).build().unwrap();
        let encoded = encode_structured(&event).unwrap();
        assert_eq!(
            encoded.properties.content_type(),
            &Some("application/cloudevents+json; charset=utf-8".into())
        );
        assert_eq!(encoded.properties.headers(), &None);
        let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
        assert_eq!(
            body,
            json!({"specversion": "1.0", "id": "1", "source": "/orrery", "type": "com.example.x.v1",
                "datacontenttype": "application/json", "data": {"a": 1}})
        );
    }

    #[test]
    fn invalid_events_are_refused_in_both_modes() {
        let empty = builder().id("").build().unwrap();
        let old = EventBuilderV03::new().id("1").source("/x").ty("t").build().unwrap();
        for encode in [encode_binary, encode_structured] {
            assert_eq!(problem(encode(&empty)), Some(("id".to_owned(), Problem::Empty)));
            assert!(matches!(
                encode(&old),
                Err(EncodeError::Invalid(Invalid::SpecVersion(version))) if version == "0.3"
            ));
        }
    }

    #[test]
    fn data_that_is_not_the_json_it_claims_to_be_is_refused() {
        let text = builder().data("application/json", "secret").build().unwrap();
        let bytes = builder().data("application/json", b"secret".to_vec()).build().unwrap();
        for result in [encode_binary(&text), encode_binary(&bytes), encode_structured(&text)] {
            let error = result.unwrap_err();
            assert!(matches!(error, EncodeError::Data(DataError::Json(_))));
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn content_types_that_would_be_misread_are_refused_in_binary_mode() {
        for format in
            ["application/cloudevents+json", "Application/CloudEvents-batch+json", "application/cloudevents"]
        {
            let mut event = builder().build().unwrap();
            event.set_datacontenttype(Some(format));
            let refused = Some(("datacontenttype".to_owned(), Problem::EventFormat));
            assert_eq!(problem(encode_binary(&event)), refused);
            assert!(encode_structured(&event).is_ok());
        }
    }

    #[test]
    fn what_exceeds_a_short_string_is_refused_without_panic() {
        let mut event = builder().build().unwrap();
        event.set_datacontenttype(Some(format!("text/{}", "x".repeat(251))));
        assert_eq!(problem(encode_binary(&event)), Some(("datacontenttype".to_owned(), Problem::TooLong)));
        let longest = "x".repeat(243);
        assert!(encode_binary(&builder().extension(&longest, true).build().unwrap()).is_ok());
        let too_long = builder().extension(&"x".repeat(244), true).build().unwrap();
        assert!(matches!(problem(encode_binary(&too_long)), Some((_, Problem::TooLong))));
    }
}
