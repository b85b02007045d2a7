//! What can be wrong with an event or with the message that carries it. Used by every file of this crate.
//! No text here holds a value of the data; names that a peer chose are cut short and escaped before they are kept.

use thiserror::Error;

/// How much of a name chosen by a peer an error repeats, in characters.
const SHOWN: usize = 64;

/// What is wrong with one attribute; reads on after the attribute's name.
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

/// Why an event is not a valid CloudEvent of version 1.0; returned by [`validate`](crate::validate).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// The version is not 1.0; holds the version found.
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
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event's version is not 1.0; holds the version.
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
    /// The data does not fit its content type.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The event could not be written as JSON.
    #[error("the event cannot be written as json")]
    Json(#[source] serde_json::Error),
}

/// Why a message is not an event that this crate reads; used by [`decode`](crate::decode).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is a batch (`application/cloudevents-batch…`).
    #[error("a batch of events is not supported, only single events are")]
    Batch,
    /// The message is a structured event in another format than JSON; holds the media type.
    #[error("event format {0} is not supported, only application/cloudevents+json is")]
    Format(String),
    /// The event's version is not 1.0; holds the version, at most 64 characters, escaped.
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

impl From<Invalid> for EncodeError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::SpecVersion(version) => Self::SpecVersion(version),
            Invalid::Attribute { name, problem } => Self::Attribute { name, problem },
        }
    }
}

impl From<Invalid> for DecodeError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::SpecVersion(version) => Self::SpecVersion(version),
            Invalid::Attribute { name, problem } => Self::Attribute { name, problem },
        }
    }
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
