//! The CloudEvents HTTP binding, version 1.0.2: from headers and body to events. Binary and structured mode and batches are read; the rules of events
//! themselves are `cloudevents_amqp`'s, whose binding differs only in how headers are written.

mod batch;

use cloudevents::{AttributesReader as _, Event};
use cloudevents_amqp::{DecodeError, decode};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use orrery_schemas::problems::Code;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use self::batch::split;

use super::Refused;

/// How an attribute's header begins.
const PREFIX: &str = "ce-";
/// Attributes and extensions of an event, in all: a message's headers fit into one frame of the broker.
const ATTRIBUTE_BYTES: usize = 8 * 1024;
/// Extensions of an event.
const MOST_ATTRIBUTES: usize = 64;

/// What a request holds.
#[derive(Debug)]
pub enum Sent {
    /// One event.
    One(Result<Box<Event>, Refused>),
    /// A batch, each event by itself.
    Batch(Vec<Result<Event, Refused>>),
}

/// A mode of the binding, by the content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Binary,
    Structured,
    Batch,
}

/// Reads a request. `headers` are all of them, names in any case.
///
/// # Errors
/// When nothing of it can be read: an unknown event format, a batch that is no array, both modes at once.
pub fn read<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
    most: usize,
) -> Result<Sent, Refused> {
    let (mut content_type, mut attributes) = (None, Vec::new());
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if name == "content-type" {
            content_type = Some(text(&name, value)?);
        } else if let Some(attribute) = name.strip_prefix(PREFIX) {
            attributes.push((attribute.to_owned(), value));
        }
    }
    match mode(content_type.as_deref())? {
        Mode::Binary => Ok(Sent::One(binary(content_type.as_deref(), &attributes, body).map(Box::new))),
        Mode::Structured => {
            let event = structured(body).and_then(|event| agree(&event, &attributes).map(|()| event));
            Ok(Sent::One(event.map(Box::new)))
        }
        Mode::Batch if !attributes.is_empty() => Err(Refused::new(
            Code::Malformed,
            "a batch has its attributes in its events: leave out the headers ce-*",
        )),
        Mode::Batch => batch(body, most).map(Sent::Batch),
    }
}

fn mode(content_type: Option<&str>) -> Result<Mode, Refused> {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    match essence.as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        _ if essence.starts_with("application/cloudevents") => Err(Refused::new(
            Code::UnsupportedMediaType,
            "events are taken as application/cloudevents+json, as application/cloudevents-batch+json, or in binary mode",
        )),
        _ => Ok(Mode::Binary),
    }
}

fn structured(body: &[u8]) -> Result<Event, Refused> {
    let content_type = ShortString::from("application/cloudevents+json");
    finish(decode(&BasicProperties::default().with_content_type(content_type), body))
}

fn binary(content_type: Option<&str>, attributes: &[(String, &[u8])], body: &[u8]) -> Result<Event, Refused> {
    let mut properties = BasicProperties::default();
    if let Some(content_type) = content_type.filter(|text| !text.is_empty()) {
        let short = ShortString::try_new(content_type)
            .map_err(|_| Refused::new(Code::Malformed, "the content type is longer than 255 bytes"))?;
        properties = properties.with_content_type(short);
    }
    let mut headers = FieldTable::default();
    for (name, value) in attributes {
        if name == "datacontenttype" {
            let detail = "in binary mode Content-Type is the datacontenttype: leave out ce-datacontenttype";
            return Err(Refused::new(Code::Malformed, detail));
        }
        let value = AMQPValue::LongString(LongString::from(decoded(name, value)?));
        let key = ShortString::try_new(format!("cloudEvents_{name}"))
            .map_err(|_| Refused::new(Code::Malformed, "a header's name is too long"))?;
        if headers.inner().contains_key(key.as_str()) {
            return Err(Refused::new(
                Code::Malformed,
                format!("the header ce-{} is there twice", shown(name)),
            ));
        }
        headers.insert(key, value);
    }
    finish(decode(&properties.with_headers(headers), body))
}

fn batch(body: &[u8], most: usize) -> Result<Vec<Result<Event, Refused>>, Refused> {
    let events = split(body)
        .ok_or_else(|| Refused::new(Code::Malformed, "a batch is a JSON array of events, as UTF-8"))?;
    if events.len() > most {
        return Err(Refused::new(Code::TooLarge, format!("a batch has at most {most} events; send several")));
    }
    Ok(events.into_iter().map(structured).collect())
}

/// In structured mode a header may say an attribute once more, and nothing else (binding, 3.2.2): a proxy could have routed by it.
fn agree(event: &Event, attributes: &[(String, &[u8])]) -> Result<(), Refused> {
    for (name, value) in attributes {
        let header = decoded(name, value)?;
        let own =
            event.iter().find(|(own, _)| own == name).map(|(_, value)| value.to_string()).or_else(|| {
                (name == "datacontenttype").then(|| event.datacontenttype().map(str::to_owned)).flatten()
            });
        let is_same_time = name == "time"
            && chrono::DateTime::parse_from_rfc3339(&header).ok().map(|time| time.to_utc())
                == event.time().copied();
        if own.as_deref() != Some(header.as_str()) && !is_same_time {
            let detail = format!(
                "the header ce-{} says something else than the body: send an event in one mode",
                shown(name)
            );
            return Err(Refused::new(Code::Malformed, detail));
        }
    }
    Ok(())
}

fn finish(decoded: Result<Event, DecodeError>) -> Result<Event, Refused> {
    let event = decoded.map_err(|error| Refused::new(Code::Malformed, error.to_string()))?;
    let sizes = event.iter().map(|(name, value)| name.len() + value.to_string().len() + 32);
    if sizes.sum::<usize>() > ATTRIBUTE_BYTES || event.iter().count() > MOST_ATTRIBUTES {
        let detail =
            format!("an event has at most {MOST_ATTRIBUTES} attributes, of {ATTRIBUTE_BYTES} bytes together");
        return Err(Refused::new(Code::Malformed, detail));
    }
    Ok(event)
}

fn text(name: &str, value: &[u8]) -> Result<String, Refused> {
    let text = std::str::from_utf8(value)
        .map_err(|_| Refused::new(Code::Malformed, format!("the header {} is no text", shown(name))))?;
    Ok(text.trim().to_owned())
}

/// The value of a header (binding, 3.1.3.2): quotes and their backslashes are taken off, then what is percent-encoded is decoded.
fn decoded(name: &str, value: &[u8]) -> Result<String, Refused> {
    let fault = |what: &str| Refused::new(Code::Malformed, format!("the header ce-{} {what}", shown(name)));
    let text = text(name, value)?;
    let bare = match text.strip_prefix('"') {
        None => text,
        Some(quoted) => {
            let quoted = quoted
                .strip_suffix('"')
                .ok_or_else(|| fault("begins with a quote and does not end with one"))?;
            let (mut bare, mut characters) = (String::new(), quoted.chars());
            while let Some(character) = characters.next() {
                match character {
                    '\\' => bare.push(characters.next().ok_or_else(|| fault("ends with a backslash"))?),
                    '"' => return Err(fault("has a quote within its quotes")),
                    other => bare.push(other),
                }
            }
            bare
        }
    };
    // RFC 3986, 2.1: a '%' is followed by two digits, or it is not encoded.
    let bytes = bare.as_bytes();
    let broken = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').any(|(at, _)| {
        !bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(fault("has a '%' that encodes nothing: write %25"));
    }
    let decoded = percent_decode_str(&bare).decode_utf8();
    Ok(decoded.map_err(|_| fault("is percent-encoded and no UTF-8"))?.into_owned())
}

/// A name that a peer chose, cut short.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The event as one JSON object of its attributes, without its data: what filters look at.
pub fn attributes(event: &[u8]) -> serde_json::Map<String, Value> {
    let mut map = match serde_json::from_slice(event) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    map.remove("data");
    map.remove("data_base64");
    map
}

#[cfg(test)]
mod tests {
    use cloudevents::{AttributesReader as _, Data};
    use serde_json::json;

    use super::*;

    fn sent(headers: &[(&str, &str)], body: &[u8]) -> Result<Sent, Refused> {
        read(headers.iter().map(|(name, value)| (*name, value.as_bytes())), body, 3)
    }

    fn one(headers: &[(&str, &str)], body: &[u8]) -> Result<Event, Refused> {
        match sent(headers, body)? {
            Sent::One(event) => event.map(|event| *event),
            Sent::Batch(_) => panic!("a batch"),
        }
    }

    const REQUIRED: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/acme"), ("ce-type", "com.acme.order")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        REQUIRED.iter().chain(more).copied().collect()
    }

    #[test]
    fn binary_mode_has_attributes_in_headers_in_any_case() {
        let event =
            one(&with(&[("Content-Type", "application/json"), ("CE-Subject", "s")]), b"{\"a\":1}").unwrap();
        assert_eq!((event.id(), event.ty(), event.subject()), ("1", "com.acme.order", Some("s")));
        assert_eq!(event.data(), Some(&Data::Json(json!({"a": 1}))));
        // Without a content type the data is bytes.
        let event = one(&with(&[]), b"abc").unwrap();
        assert_eq!((event.datacontenttype(), event.data()), (None, Some(&Data::Binary(b"abc".to_vec()))));
        assert_eq!(one(&with(&[("content-type", "text/xml")]), b"").unwrap().data(), None);
    }

    #[test]
    fn headers_are_unquoted_and_percent_decoded() {
        let subject = |value: &'static str| {
            one(&with(&[("ce-subject", value)]), b"").map(|event| event.subject().unwrap().to_owned())
        };
        assert_eq!(subject("Euro%20%E2%82%AC%20%F0%9F%98%80").unwrap(), "Euro € 😀");
        assert_eq!(subject(r#""a \"b\" \\ %22""#).unwrap(), r#"a "b" \ ""#);
        assert_eq!(subject("100%25").unwrap(), "100%");
        for wrong in ["%", "%zz", "%E2%82", "%ff", "\"a", "\"a\"b\"", "\"a\\\"", "%00"] {
            assert_eq!(subject(wrong).unwrap_err().code, Code::Malformed, "{wrong}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (at, (name, _)) in REQUIRED.iter().enumerate() {
            let mut headers = REQUIRED.to_vec();
            headers.remove(at);
            let error = one(&headers, b"").unwrap_err();
            assert!(error.detail.contains(name.trim_start_matches("ce-")), "{}", error.detail);
        }
        for (more, part) in [
            (("ce-datacontenttype", "text/plain"), "Content-Type"),
            (("ce-time", "yesterday"), "time"),
            (("ce-UPPER_case", "x"), "upper_case"),
            (("ce-data", "x"), "data"),
            (("ce-id", "2"), "twice"),
        ] {
            let error = one(&with(&[more]), b"").unwrap_err();
            assert!(error.detail.contains(part), "{}", error.detail);
        }
        assert!(
            one(&with(&[("content-type", "application/json")]), b"{").unwrap_err().detail.contains("json")
        );
        let old = [("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "/a"), ("ce-type", "t")];
        assert!(one(&old, b"").unwrap_err().detail.contains("0.3"));
        assert!(one(&[], b"{}").unwrap_err().detail.contains("specversion"));
    }

    const EVENT: &str =
        r#"{"specversion":"1.0","id":"1","source":"/acme","type":"com.acme.order","data":{"a":1}}"#;

    #[test]
    fn structured_mode_has_all_in_its_body_and_headers_may_only_agree() {
        let structured = ("content-type", "application/cloudevents+json; charset=utf-8");
        assert_eq!(one(&[structured], EVENT.as_bytes()).unwrap().id(), "1");
        assert!(one(&[structured, ("ce-id", "1"), ("ce-type", "com.acme.order")], EVENT.as_bytes()).is_ok());
        for (name, value) in [("ce-id", "2"), ("ce-type", "com.gravitalia.email"), ("ce-more", "x")] {
            let error = one(&[structured, (name, value)], EVENT.as_bytes()).unwrap_err();
            assert!(error.detail.contains("one mode"), "{}", error.detail);
        }
        let bad = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"*"}"#;
        assert!(one(&[structured], bad.as_bytes()).unwrap_err().detail.contains("base64"));
        let both = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":1,"data_base64":"AA=="}"#;
        assert!(one(&[structured], both.as_bytes()).unwrap_err().detail.contains("both"));
        for body in ["", "[]", "null", "{", "{}"] {
            assert!(one(&[structured], body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_batch_is_read_event_by_event() {
        let batch = ("content-type", "application/cloudevents-batch+json");
        let Sent::Batch(events) = sent(&[batch], format!("[{EVENT}, {{}}, {EVENT}]").as_bytes()).unwrap()
        else {
            panic!("one event")
        };
        assert_eq!(events.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(sent(&[batch], b"[1,2,3,4]").unwrap_err().code, Code::TooLarge);
        assert_eq!(sent(&[batch], b"{}").unwrap_err().code, Code::Malformed);
        assert_eq!(sent(&[batch, ("ce-id", "1")], b"[]").unwrap_err().code, Code::Malformed);
        let format = ("content-type", "application/cloudevents+avro");
        assert_eq!(sent(&[format], b"").unwrap_err().code, Code::UnsupportedMediaType);
    }

    #[test]
    fn attributes_have_a_limit_together() {
        let long = "x".repeat(9_000);
        let event = json!({"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "more": long});
        let headers = [("content-type", "application/cloudevents+json")];
        assert!(one(&headers, event.to_string().as_bytes()).unwrap_err().detail.contains("8192 bytes"));
    }
}
