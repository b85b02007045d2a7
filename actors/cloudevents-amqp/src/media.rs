//! What a content type says: the mode of a message, and whether data is JSON. The rest of a media type is opaque here.

/// The media type of an event in JSON format, without parameters.
pub(crate) const EVENT_JSON: &str = "application/cloudevents+json";

/// How a message carries its event (AMQP binding, section 3).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Attributes in headers, data in the body.
    Binary,
    /// The whole event in the body, as JSON.
    Structured,
    /// Several events in the body.
    Batch,
    /// The whole event in the body, in a format not known here.
    Unknown,
}

/// Tells the mode from a message's content type.
pub(crate) fn mode(content_type: &str) -> Mode {
    let essence = essence(content_type);
    if essence == EVENT_JSON {
        Mode::Structured
    } else if essence.starts_with("application/cloudevents-batch") {
        Mode::Batch
    } else if essence.starts_with("application/cloudevents") {
        Mode::Unknown
    } else {
        Mode::Binary
    }
}

/// Whether data of this content type is JSON: subtype `json` or suffix `+json` (JSON format 1.0.2, section 3.1).
pub(crate) fn is_json(content_type: &str) -> bool {
    essence(content_type)
        .split_once('/')
        .is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// The media type without parameters, in lower case.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_read_without_case_and_parameters() {
        for structured in [
            "application/cloudevents+json",
            "Application/CloudEvents+JSON",
            "application/cloudevents+json; charset=utf-8",
            " application/cloudevents+json ;charset=\"utf-8\"",
        ] {
            assert_eq!(mode(structured), Mode::Structured, "{structured}");
        }
        assert_eq!(mode("application/cloudevents-batch+json; charset=utf-8"), Mode::Batch);
        assert_eq!(mode("application/cloudevents-batch"), Mode::Batch);
        assert_eq!(mode("application/cloudevents+avro"), Mode::Unknown);
        assert_eq!(mode("application/cloudevents"), Mode::Unknown);
        for binary in
            ["application/json", "text/plain", "", ";", "application/cloud", "x/application/cloudevents+json"]
        {
            assert_eq!(mode(binary), Mode::Binary, "{binary}");
        }
    }

    #[test]
    fn json_is_told_by_subtype_or_suffix() {
        for json in [
            "application/json",
            "TEXT/JSON",
            "application/problem+json;v=1",
            "application/json; charset=utf-8",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "+json",
            "text/plain",
            "application/jsonl",
            "application/x-json-seq",
            "text/plain; a=b/json",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }
}
