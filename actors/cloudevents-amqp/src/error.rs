//! What can be wrong with an event or with the message that carries it. Used by every file of this crate.
//! No text here holds a value of the data; names that a peer chose are cut short and escaped before they are kept.

use thiserror::Error;

/// How much of a name chosen by a peer an error repeats, in characters.
const SHOWN: usize = 64;

/// What is wrong with one attribute; reads on after the attribute's name.
///
/// # Examples
/// ```
/// use cloudevents_amqp::Problem;
///
/// assert_eq!(format!("attribute time {}", Problem::Time), "attribute time is not an rfc 3339 time");
/// ```
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A required attribute is not there.
    #[error("is missing")]
    Missing,
    /// The attribute is there and must not be empty.
    #[error("is empty")]
    Empty,
    /// CloudEvents 1.0, type system, `String`: control characters and noncharacters are not allowed.
    #[error("holds a control character or a noncharacter")]
    Character,
    /// Not a URI-reference in the sense of RFC 3986, section 4.1.
    #[error("is not a uri reference")]
    UriReference,
    /// Not an absolute URI.
    #[error("is not an absolute uri")]
    Uri,
    /// Not a time in the sense of RFC 3339.
    #[error("is not an rfc 3339 time")]
    Time,
    /// RFC 3339 writes years with four digits.
    #[error("lies outside the years 0 to 9999")]
    Year,
    /// Text that is not UTF-8.
    #[error("is not utf-8 text")]
    Utf8,
    /// A value whose type this attribute cannot have.
    #[error("has a value of a type it cannot have")]
    Type,
    /// An integer beyond the signed 32 bits that CloudEvents allows.
    #[error("does not fit in 32 bits")]
    Integer,
    /// An extension's name with other characters than `a` to `z` and `0` to `9`, or without any.
    #[error("is no extension name: one or more of a-z and 0-9 are allowed")]
    ExtensionName,
    /// An extension that is called `data` or like an attribute.
    #[error("is a reserved name and cannot be an extension")]
    Reserved,
    /// The same attribute came twice, and not with the same value.
    #[error("is given twice with different values")]
    Conflict,
    /// The content type, or the header's name, is longer than AMQP's short strings.
    #[error("is longer than the 255 bytes of an amqp short string")]
    TooLong,
    /// A `datacontenttype` that a receiver would take for a structured event or a batch.
    #[error("names an event format, which binary mode cannot carry")]
    EventFormat,
}

/// Why an event is not a valid CloudEvent of version 1.0; returned by [`validate`](crate::validate), and held by [`EncodeError`] and
/// [`DecodeError`].
///
/// # Examples
/// ```
/// use cloudevents_amqp::{Invalid, Problem};
///
/// let invalid = Invalid::Attribute { name: "id".to_owned(), problem: Problem::Empty };
/// assert_eq!(invalid.to_string(), "attribute id is empty");
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// The version is not 1.0; holds the version found, at most 64 characters, escaped.
    #[error("specversion {0} is not supported, only 1.0 is")]
    SpecVersion(String),
    /// One attribute is wrong.
    #[error("attribute {name} {problem}")]
    Attribute {
        /// The attribute's name, at most 64 characters, escaped.
        name: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl Invalid {
    /// An error about the attribute `name`, which may come from a peer.
    pub(crate) fn attribute(name: &str, problem: Problem) -> Self {
        Self::Attribute { name: shown(name), problem }
    }
}

/// Why an event's data does not fit what its attributes say of it; never holds any of the data.
///
/// # Examples
/// ```
/// use cloudevents_amqp::{DataError, DecodeError, decode};
/// use lapin::BasicProperties;
///
/// let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
/// let body = br#"{"specversion": "1.0", "id": "1", "source": "/", "type": "t", "data_base64": "*secret*"}"#;
/// let error = decode(&properties, body).unwrap_err();
/// assert!(matches!(error, DecodeError::Data(DataError::Base64)));
/// assert_eq!(error.to_string(), "data_base64 is not valid base64");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// The content type is JSON's and the data is not JSON, or nests deeper than 127 levels.
    #[error("data is not valid json")]
    Json(#[source] serde_json::Error),
    /// `data_base64` is not text, or not base64 in the sense of RFC 4648, section 4.
    #[error("data_base64 is not valid base64")]
    Base64,
    /// The content type is not JSON's, so a structured event's `data` must be a string.
    #[error("data is not a string, and its content type is not json's")]
    NotText,
    /// A structured event has both `data` and `data_base64`.
    #[error("data and data_base64 are both present")]
    Twice,
}

/// Why an event was not written as a message; used by [`encode_binary`](crate::encode_binary) and
/// [`encode_structured`](crate::encode_structured).
///
/// # Examples
/// ```
/// use cloudevents::{EventBuilder, EventBuilderV10};
/// use cloudevents_amqp::{EncodeError, Invalid, Problem, encode_binary};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = EventBuilderV10::new().id("1").source("not a uri").ty("com.example.ping").build()?;
/// let expected = Invalid::Attribute { name: "source".to_owned(), problem: Problem::UriReference };
/// assert!(matches!(encode_binary(&event), Err(EncodeError::Invalid(invalid)) if invalid == expected));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event is no CloudEvent of version 1.0, or AMQP cannot carry one of its attributes.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The data does not fit its content type.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The event could not be written as JSON.
    #[error("the event cannot be written as json")]
    Json(#[source] serde_json::Error),
}

/// Why a message is not an event that this crate reads; used by [`decode`](crate::decode).
///
/// # Examples
/// ```
/// use cloudevents_amqp::{DecodeError, decode};
/// use lapin::BasicProperties;
///
/// let batch = BasicProperties::default().with_content_type("application/cloudevents-batch+json".into());
/// assert!(matches!(decode(&batch, b"[]"), Err(DecodeError::Batch)));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is a batch (`application/cloudevents-batch…`).
    #[error("a batch of events is not supported, only single events are")]
    Batch,
    /// The message is a structured event in another format than JSON; holds the media type.
    #[error("event format {0} is not supported, only application/cloudevents+json is")]
    Format(String),
    /// The message carries no CloudEvent of version 1.0: an attribute is missing or wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The body of a structured event is not JSON, or nests deeper than 127 levels.
    #[error("the structured event is not valid json")]
    Envelope(#[source] serde_json::Error),
    /// The body of a structured event is JSON, but not an object.
    #[error("the structured event is not a json object")]
    NotAnObject,
    /// The data does not fit its content type.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Makes text from a peer fit for an error: one line, no control characters, of bounded length.
pub(crate) fn shown(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut kept: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_peers_are_cut_short_and_escaped() {
        assert_eq!(shown("id"), "id");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(100_000)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn an_error_names_the_attribute_and_what_is_wrong() {
        let error = DecodeError::from(Invalid::attribute("source", Problem::Empty));
        assert_eq!(error.to_string(), "attribute source is empty");
        let error = EncodeError::from(Invalid::SpecVersion("0.3".to_owned()));
        assert_eq!(error.to_string(), "specversion 0.3 is not supported, only 1.0 is");
    }
}
