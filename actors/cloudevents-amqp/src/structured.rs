//! An event as one JSON object (CloudEvents JSON format 1.0.2). The SDK's own reader is not used: its errors repeat values, and it
//! turns `data_base64` into JSON when it can.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use cloudevents::{AttributesReader, Data, Event};
use serde_json::{Map, Value};

use crate::{
    draft::{Draft, Given},
    error::{DataError, DecodeError, EncodeError, Invalid, Problem},
    media,
};

/// Writes an event, which is valid, as JSON.
pub(crate) fn write(event: &Event) -> Result<Vec<u8>, EncodeError> {
    serde_json::to_vec(as_json_data(event)?.as_ref()).map_err(EncodeError::Json)
}

/// The event with its data in the form that says the same in JSON as its bytes would say in binary mode.
fn as_json_data(event: &Event) -> Result<Cow<'_, Event>, DataError> {
    let is_json = event.datacontenttype().map(media::is_json);
    let data = match (event.data(), is_json) {
        // A JSON string would turn the document into a string that holds it.
        (Some(Data::String(text)), Some(true)) => {
            Data::Json(serde_json::from_str(text).map_err(DataError::Json)?)
        }
        // No content type means JSON in this format.
        (Some(Data::String(text)), None) => Data::Binary(text.clone().into_bytes()),
        (Some(Data::Json(value)), Some(false)) => Data::String(value.to_string()),
        _ => return Ok(Cow::Borrowed(event)),
    };
    let mut event = event.clone();
    event.set_data_unchecked(data);
    Ok(Cow::Owned(event))
}

/// Reads an event from JSON.
pub(crate) fn read(body: &[u8]) -> Result<Event, DecodeError> {
    let Value::Object(mut envelope) = serde_json::from_slice(body).map_err(DecodeError::Envelope)? else {
        return Err(DecodeError::NotAnObject);
    };
    let (data, base64) = (envelope.remove("data"), envelope.remove("data_base64"));
    let mut event = attributes(envelope)?.finish()?;
    if let Some(data) = read_data(event.datacontenttype(), data, base64)? {
        event.set_data_unchecked(data);
    }
    Ok(event)
}

fn attributes(envelope: Map<String, Value>) -> Result<Draft<'static>, Invalid> {
    let mut draft = Draft::default();
    for (name, value) in envelope {
        let given = match value {
            // As good as absent (JSON format, section 2.2).
            Value::Null => continue,
            Value::String(text) => Given::Text(text.into()),
            Value::Bool(value) => Given::Boolean(value),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Given::Integer(integer),
                None if number.is_u64() => return Err(Invalid::attribute(&name, Problem::Integer)),
                None => return Err(Invalid::attribute(&name, Problem::Type)),
            },
            Value::Array(_) | Value::Object(_) => return Err(Invalid::attribute(&name, Problem::Type)),
        };
        draft.set(name, given)?;
    }
    Ok(draft)
}

fn read_data(
    content_type: Option<&str>,
    data: Option<Value>,
    base64: Option<Value>,
) -> Result<Option<Data>, DataError> {
    let base64 = base64.filter(|value| !value.is_null());
    match (data, base64) {
        (None, None) => Ok(None),
        (None | Some(Value::Null), Some(Value::String(text))) => {
            BASE64_STANDARD.decode(text).map(|bytes| Some(Data::Binary(bytes))).map_err(|_| DataError::Base64)
        }
        (None | Some(Value::Null), Some(_)) => Err(DataError::Base64),
        (Some(_), Some(_)) => Err(DataError::Twice),
        (Some(value), None) if content_type.is_none_or(media::is_json) => Ok(Some(Data::Json(value))),
        (Some(Value::String(text)), None) => Ok(Some(Data::String(text))),
        (Some(Value::Null), None) => Ok(None),
        (Some(_), None) => Err(DataError::NotText),
    }
}

#[cfg(test)]
mod tests {

    use cloudevents::{EventBuilder, EventBuilderV10, event::ExtensionValue};
    use serde_json::json;

    use super::*;

    fn envelope(more: Value) -> Vec<u8> {
        let mut envelope = json!({"specversion": "1.0", "id": "1", "source": "/x", "type": "t"});
        envelope.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        envelope.to_string().into_bytes()
    }

    fn data_of(more: Value) -> Result<Option<Data>, DecodeError> {
        read(&envelope(more)).map(|event| event.data().cloned())
    }

    fn written(content_type: Option<&str>, data: Data) -> Value {
        let builder = EventBuilderV10::new().id("1").source("/x").ty("t");
        let event = match content_type {
            Some(content_type) => builder.data(content_type, data).build().unwrap(),
            None => {
                let mut event = builder.build().unwrap();
                event.set_data_unchecked(data);
                event
            }
        };
        serde_json::from_slice(&write(&event).unwrap()).unwrap()
    }

    #[test]
    fn data_is_read_by_its_content_type() {
        let json = Some(Data::Json(json!({"a": [1, null]})));
        assert_eq!(data_of(json!({"data": {"a": [1, null]}})).unwrap(), json);
        assert_eq!(data_of(json!({"datacontenttype": "x/y+json", "data": {"a": [1, null]}})).unwrap(), json);
        assert_eq!(data_of(json!({"data": null})).unwrap(), Some(Data::Json(Value::Null)));
        let text = Some(Data::String("<a/>".to_owned()));
        assert_eq!(data_of(json!({"datacontenttype": "text/xml", "data": "<a/>"})).unwrap(), text);
        assert_eq!(data_of(json!({})).unwrap(), None);
        assert_eq!(data_of(json!({"datacontenttype": "text/xml", "data": null})).unwrap(), None);
    }

    #[test]
    fn data_base64_stays_binary_even_when_it_holds_json() {
        let binary = Some(Data::Binary(b"{}".to_vec()));
        assert_eq!(data_of(json!({"data_base64": "e30="})).unwrap(), binary);
        assert_eq!(
            data_of(json!({"data_base64": "e30=", "datacontenttype": "application/json"})).unwrap(),
            binary
        );
        assert_eq!(data_of(json!({"data_base64": "e30=", "data": null})).unwrap(), binary);
        assert_eq!(data_of(json!({"data_base64": null})).unwrap(), None);
    }

    #[test]
    fn data_that_does_not_fit_is_refused_without_repeating_it() {
        let cases = [
            (json!({"data_base64": "sec!ret"}), "data_base64 is not valid base64"),
            (json!({"data_base64": 5}), "data_base64 is not valid base64"),
            (json!({"data_base64": "e30=", "data": "secret"}), "data and data_base64 are both present"),
            (json!({"datacontenttype": "text/plain", "data": {"secret": 1}}), "data is not a string"),
        ];
        for (more, expected) in cases {
            let error = data_of(more).unwrap_err();
            assert!(matches!(error, DecodeError::Data(_)));
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!format!("{error:?}").contains("sec"), "{error:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_object_is_refused() {
        for body in [&b""[..], b"{", b"\xff", b"\xef\xbb\xbf{}", b"nul"] {
            assert!(matches!(read(body), Err(DecodeError::Envelope(_))), "{body:?}");
        }
        for body in [&b"null"[..], b"[]", b"1", b"\"x\"", b"[{\"specversion\":\"1.0\"}]"] {
            assert!(matches!(read(body), Err(DecodeError::NotAnObject)), "{body:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(1_000_000);
        assert!(matches!(read(deep.as_bytes()), Err(DecodeError::Envelope(_))));
        let deep = format!("{{\"data\":{}", "{\"a\":".repeat(100_000));
        assert!(matches!(read(deep.as_bytes()), Err(DecodeError::Envelope(_))));
    }

    #[test]
    fn extensions_keep_their_types_and_null_is_absence() {
        let event =
            read(&envelope(json!({"s": "é", "b": true, "n": -5, "gone": null, "subject": null}))).unwrap();
        assert_eq!(event.extension("s"), Some(&ExtensionValue::from("é")));
        assert_eq!(event.extension("b"), Some(&ExtensionValue::from(true)));
        assert_eq!(event.extension("n"), Some(&ExtensionValue::from(-5)));
        assert_eq!(event.iter_extensions().count(), 3);
        assert_eq!(event.subject(), None);
    }

    #[test]
    fn values_that_no_attribute_can_have_are_refused() {
        for (value, expected) in [
            (json!([]), Problem::Type),
            (json!({}), Problem::Type),
            (json!(1.5), Problem::Type),
            (json!(5_000_000_000_i64), Problem::Integer),
            (json!(u64::MAX), Problem::Integer),
        ] {
            let error = read(&envelope(json!({"n": value}))).unwrap_err();
            assert!(
                matches!(
                    &error,
                    DecodeError::Invalid(Invalid::Attribute { name, problem }) if name == "n" && *problem == expected
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn data_says_the_same_in_json_as_in_bytes() {
        let text = |text: &str| Data::String(text.to_owned());
        assert_eq!(written(Some("application/json"), text("{\"a\":1}"))["data"], json!({"a": 1}));
        assert_eq!(written(Some("text/plain"), text("{\"a\":1}"))["data"], json!("{\"a\":1}"));
        assert_eq!(written(Some("text/plain"), Data::Json(json!({"a": 1})))["data"], json!("{\"a\":1}"));
        assert_eq!(written(None, text("{}"))["data_base64"], json!("e30="));
        assert_eq!(written(None, Data::Json(json!([1])))["data"], json!([1]));
        assert_eq!(written(Some("image/png"), Data::Binary(b"{}".to_vec()))["data_base64"], json!("e30="));
    }
}
