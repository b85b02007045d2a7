//! From a message to an event, whoever sent it. Nothing a peer can send makes this panic; how large a message may be is the caller's to say.

use cloudevents::{AttributesReader, Data, Event};
use lapin::BasicProperties;

use crate::{
    amqp10,
    draft::{Draft, Given},
    error::{DataError, DecodeError, shown},
    header,
    media::{self, Mode},
    structured,
};

/// Reads the event that a message carries, in binary or in structured mode, and checks it with [`validate`](crate::validate).
///
/// The content type tells the mode: `application/cloudevents+json` is structured, any other is binary. In binary mode headers start
/// with `cloudEvents_` or `cloudEvents:` (in any case), others are ignored; text may come as string or byte array, integers in any
/// width, `time` as RFC 3339 text or native timestamp; null is absence. Application-properties of AMQP 1.0, as RabbitMQ 3 keeps them in
/// one header, count like headers. Data of a JSON content type becomes [`Data::Json`], all other
/// [`Data::Binary`], an empty body none. In structured mode `data` becomes [`Data::Json`] or, under another content type,
/// [`Data::String`]; `data_base64` becomes [`Data::Binary`].
///
/// # Errors
/// [`DecodeError::Batch`] and [`DecodeError::Format`] by the content type; [`DecodeError::Envelope`] and [`DecodeError::NotAnObject`] when
/// a structured body is no JSON object; [`DecodeError::Invalid`] for any version but 1.0 and for an attribute that is missing or wrong (a
/// message without any CloudEvents header misses `specversion`); [`DecodeError::Data`] when data does not fit its content type.
///
/// Source: CloudEvents AMQP binding 1.0.2, section 3.
///
/// # Examples
/// A message in structured mode, and one that carries no event:
/// ```
/// use cloudevents::{AttributesReader, Data};
/// use cloudevents_amqp::{DecodeError, Invalid, Problem, decode};
/// use lapin::BasicProperties;
///
/// # fn main() -> Result<(), DecodeError> {
/// let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
/// let body = br#"{"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.ping", "data": [1, 2]}"#;
/// let event = decode(&properties, body)?;
/// assert_eq!((event.id(), event.ty()), ("1", "com.example.ping"));
/// assert_eq!(event.data(), Some(&Data::Json(vec![1, 2].into())));
///
/// match decode(&BasicProperties::default(), b"hello") {
///     Err(DecodeError::Invalid(Invalid::Attribute { name, problem: Problem::Missing })) => {
///         assert_eq!(name, "specversion");
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub fn decode(properties: &BasicProperties, body: &[u8]) -> Result<Event, DecodeError> {
    let content_type = properties.content_type().as_ref().map_or("", |content_type| content_type.as_str());
    match media::mode(content_type) {
        Mode::Binary => binary(properties, content_type, body),
        Mode::Structured => structured::read(body),
        Mode::Batch => Err(DecodeError::Batch),
        Mode::Unknown => Err(DecodeError::Format(shown(&media::essence(content_type)))),
    }
}

fn binary(properties: &BasicProperties, content_type: &str, body: &[u8]) -> Result<Event, DecodeError> {
    let mut draft = Draft::default();
    if !content_type.is_empty() {
        draft.set("datacontenttype", Given::Text(content_type.into()))?;
    }
    for (header, value) in properties.headers().iter().flatten() {
        if header.as_str() == amqp10::HEADER {
            for (property, value) in amqp10::read(value) {
                let Some(name) = header::attribute_name(&property) else { continue };
                if let Some(given) = header::read(name, &value)? {
                    draft.set(name.to_owned(), given.into_owned())?;
                }
            }
        }
        let Some(name) = header::attribute_name(header.as_str()) else { continue };
        if let Some(given) = header::read(name, value)? {
            draft.set(name, given)?;
        }
    }
    let mut event = draft.finish()?;
    if !body.is_empty() {
        let data = if event.datacontenttype().is_some_and(media::is_json) {
            Data::Json(serde_json::from_slice(body).map_err(DataError::Json)?)
        } else {
            Data::Binary(body.to_vec())
        };
        event.set_data_unchecked(data);
    }
    Ok(event)
}

#[cfg(test)]
mod tests {

    use cloudevents::event::ExtensionValue;
    use lapin::types::{AMQPValue, FieldTable};
    use serde_json::json;

    use super::*;
    use crate::{Invalid, Problem};

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn message(more: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/x"), ("type", "t")] {
            headers.insert(format!("cloudEvents_{name}").into(), text(value));
        }
        for (name, value) in more {
            headers.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(headers)
    }

    fn problem(result: Result<Event, DecodeError>) -> (String, Problem) {
        match result {
            Err(DecodeError::Invalid(Invalid::Attribute { name, problem })) => (name, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_minimal_message_is_an_event() {
        let event = decode(&message(&[]), b"").unwrap();
        assert_eq!((event.id(), event.source().as_str(), event.ty()), ("1", "/x", "t"));
        assert_eq!((event.time(), event.datacontenttype(), event.data()), (None, None, None));
    }

    #[test]
    fn foreign_headers_are_ignored() {
        let event = decode(
            &message(&[
                ("x-death", AMQPValue::FieldArray(vec![AMQPValue::FieldTable(FieldTable::default())].into())),
                ("x-delivery-count", AMQPValue::LongLongInt(1)),
                ("attempt", AMQPValue::LongInt(1)),
                ("cloudevents", AMQPValue::Double(1.0)),
            ]),
            b"",
        )
        .unwrap();
        assert_eq!(event.iter_extensions().count(), 0);
    }

    #[test]
    fn headers_of_both_spellings_may_agree_but_not_differ() {
        assert!(decode(&message(&[("cloudEvents:id", text("1"))]), b"").is_ok());
        let result = decode(&message(&[("cloudEvents:id", text("2"))]), b"");
        assert_eq!(problem(result), ("id".to_owned(), Problem::Conflict));
    }

    #[test]
    fn the_content_type_is_the_datacontenttype() {
        let properties = message(&[]).with_content_type("text/plain; charset=utf-8".into());
        let event = decode(&properties, b"hi").unwrap();
        assert_eq!(event.datacontenttype(), Some("text/plain; charset=utf-8"));
        assert_eq!(event.data(), Some(&Data::Binary(b"hi".to_vec())));
        let header = message(&[("cloudEvents_datacontenttype", text("text/plain"))]);
        assert_eq!(decode(&header, b"hi").unwrap().datacontenttype(), Some("text/plain"));
        let both = header.with_content_type("text/html".into());
        assert_eq!(problem(decode(&both, b"hi")), ("datacontenttype".to_owned(), Problem::Conflict));
        let empty = message(&[]).with_content_type("".into());
        assert_eq!(decode(&empty, b"hi").unwrap().datacontenttype(), None);
    }

    #[test]
    fn json_data_is_parsed_and_broken_json_refused_without_repeating_it() {
        let properties = message(&[]).with_content_type("application/vnd.x+json; charset=utf-8".into());
        assert_eq!(decode(&properties, b"{\"a\":1}").unwrap().data(), Some(&Data::Json(json!({"a": 1}))));
        assert_eq!(decode(&properties, b"").unwrap().data(), None);
        for body in [&b"secret"[..], b"{\"secret\":", b"\"secret\xff\"", b"1e999"] {
            let error = decode(&properties, body).unwrap_err();
            assert!(matches!(error, DecodeError::Data(DataError::Json(_))), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(matches!(decode(&properties, deep.as_bytes()), Err(DecodeError::Data(DataError::Json(_)))));
    }

    #[test]
    fn a_native_timestamp_is_a_time() {
        let event =
            decode(&message(&[("cloudEvents_time", AMQPValue::Timestamp(1_522_900_584))]), b"").unwrap();
        assert_eq!(event.time().unwrap().timestamp(), 1_522_900_584);
    }

    #[test]
    fn extensions_keep_their_types() {
        let event = decode(
            &message(&[
                ("cloudEvents:b", AMQPValue::Boolean(false)),
                ("cloudEvents_n", AMQPValue::ShortUInt(7)),
                ("CloudEvents_s", text("")),
                ("cloudEvents_gone", AMQPValue::Void),
            ]),
            b"",
        )
        .unwrap();
        assert_eq!(event.extension("b"), Some(&ExtensionValue::from(false)));
        assert_eq!(event.extension("n"), Some(&ExtensionValue::from(7)));
        assert_eq!(event.extension("s"), Some(&ExtensionValue::from("")));
        assert_eq!(event.iter_extensions().count(), 3);
    }

    #[test]
    fn wrong_attributes_are_named() {
        let cases = [
            ("cloudEvents_id", text(""), "id", Problem::Empty),
            ("cloudEvents_id", AMQPValue::Void, "id", Problem::Missing),
            ("cloudEvents_id", AMQPValue::LongInt(5), "id", Problem::Type),
            ("cloudEvents_source", text("a b"), "source", Problem::UriReference),
            ("cloudEvents_time", text("soon"), "time", Problem::Time),
            ("cloudEvents_n", AMQPValue::LongUInt(u32::MAX), "n", Problem::Integer),
            ("cloudEvents_Bad", text("x"), "Bad", Problem::ExtensionName),
            ("cloudEvents_data", text("x"), "data", Problem::Reserved),
            ("cloudEvents_", text("x"), "\"\"", Problem::ExtensionName),
            ("cloudEvents_x", AMQPValue::Float(0.5), "x", Problem::Type),
        ];
        for (header, value, name, expected) in cases {
            assert_eq!(problem(decode(&message(&[(header, value)]), b"")), (name.to_owned(), expected));
        }
    }

    #[test]
    fn a_message_without_event_headers_misses_its_version() {
        let missing = ("specversion".to_owned(), Problem::Missing);
        assert_eq!(problem(decode(&BasicProperties::default(), b"{\"Records\":[]}")), missing);
        assert_eq!(
            problem(decode(&BasicProperties::default().with_headers(FieldTable::default()), b"")),
            missing
        );
    }

    #[test]
    fn another_version_is_refused_by_its_name() {
        let result = decode(&message(&[("cloudEvents_specversion", text("0.3"))]), b"");
        assert!(
            matches!(result, Err(DecodeError::Invalid(Invalid::SpecVersion(version))) if version == "0.3")
        );
        let structured = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        let result =
            decode(&structured, b"{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/x\",\"type\":\"t\"}");
        assert!(
            matches!(result, Err(DecodeError::Invalid(Invalid::SpecVersion(version))) if version == "0.3")
        );
    }

    #[test]
    fn batches_and_unknown_formats_are_refused() {
        let batch =
            message(&[]).with_content_type("application/cloudevents-batch+json; charset=utf-8".into());
        assert!(matches!(decode(&batch, b"[]"), Err(DecodeError::Batch)));
        let avro = message(&[]).with_content_type("application/CloudEvents+avro; a=b".into());
        let result = decode(&avro, b"");
        assert!(
            matches!(result, Err(DecodeError::Format(format)) if format == "application/cloudevents+avro")
        );
    }

    #[test]
    fn a_structured_event_is_read_by_its_body_alone() {
        let properties = message(&[("cloudEvents_id", text("header"))])
            .with_content_type("Application/CloudEvents+JSON ; x=y".into());
        let body = json!({"specversion": "1.0", "id": "body", "source": "/x", "type": "t", "data": {"a": 1}});
        let event = decode(&properties, body.to_string().as_bytes()).unwrap();
        assert_eq!(event.id(), "body");
        assert_eq!(event.data(), Some(&Data::Json(json!({"a": 1}))));
    }
}
