//! One AMQP header as an attribute: its name without the prefix, its value in CloudEvents' types. Rules about whole events live in
//! `draft` and `validate`.

use std::str;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::DateTime;
use lapin::types::AMQPValue;

use crate::{
    draft::Given,
    error::{Invalid, Problem},
};

/// The attributes of CloudEvents itself and of its documented extensions that are texts, and thus never Binary.
const TEXTS: [&str; 11] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "dataschema",
    "datacontenttype",
    "expirytime",
    "traceparent",
    "tracestate",
];

/// What stands before the separator, in any case.
const PREFIX: &str = "cloudEvents";

/// The name of the header that carries an attribute, with `_`: JMS clients and selectors cannot name one with `:`
/// (AMQP binding 1.0.2, section 3.1.3.1, prefers it for that reason).
pub(crate) fn header_name(attribute: &str) -> String {
    format!("{PREFIX}_{attribute}")
}

/// The attribute that a header carries, or `None` for a header that is none of CloudEvents'.
pub(crate) fn attribute_name(header: &str) -> Option<&str> {
    let (prefix, rest) = header.split_at_checked(PREFIX.len())?;
    if prefix.eq_ignore_ascii_case(PREFIX) { rest.strip_prefix(['_', ':']) } else { None }
}

/// Reads a header's value; `None` is AMQP's null, which stands for an attribute that is not there.
///
/// Integers of every width are accepted here, their range is checked with the event. A byte array is CloudEvents' Binary, whose text is base64
/// (section 3.1); where only a text can stand it is one, as some clients write all of theirs.
pub(crate) fn read<'a>(name: &str, value: &'a AMQPValue) -> Result<Option<Given<'a>>, Invalid> {
    let given = match value {
        AMQPValue::Void => return Ok(None),
        AMQPValue::Boolean(value) => Given::Boolean(*value),
        AMQPValue::ShortShortInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::ShortShortUInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::ShortInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::ShortUInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::LongInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::LongUInt(value) => Given::Integer(i64::from(*value)),
        AMQPValue::LongLongInt(value) => Given::Integer(*value),
        AMQPValue::ShortString(value) => Given::Text(value.as_str().into()),
        AMQPValue::LongString(value) => utf8(name, value.as_bytes())?,
        AMQPValue::ByteArray(value) if TEXTS.contains(&name) => utf8(name, value.as_slice())?,
        AMQPValue::ByteArray(value) => Given::Text(STANDARD.encode(value.as_slice()).into()),
        // Whole seconds since 1970 (AMQP 0.9.1, section 4.2.5.4).
        AMQPValue::Timestamp(seconds) => i64::try_from(*seconds)
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .map(Given::Time)
            .ok_or_else(|| Invalid::attribute(name, Problem::Time))?,
        AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_) => return Err(Invalid::attribute(name, Problem::Type)),
    };
    Ok(Some(given))
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<Given<'a>, Invalid> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(Given::Text(text.into())),
        Err(_) => Err(Invalid::attribute(name, Problem::Utf8)),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{ByteArray, DecimalValue, FieldArray, FieldTable};

    use super::*;

    #[test]
    fn both_separators_are_known_and_foreign_headers_are_not() {
        for header in ["cloudEvents_id", "cloudEvents:id", "cloudevents_id", "CLOUDEVENTS:id"] {
            assert_eq!(attribute_name(header), Some("id"), "{header}");
        }
        assert_eq!(attribute_name("cloudEvents_"), Some(""));
        assert_eq!(attribute_name(&header_name("time")), Some("time"));
        for foreign in [
            "",
            "x-death",
            "id",
            "cloudEvents",
            "cloudEventsid",
            "cloudEvents-id",
            "ce-id",
            "cloudEvent\u{e9}_x",
        ] {
            assert_eq!(attribute_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn integers_of_every_width_are_read() {
        for (value, expected) in [
            (AMQPValue::ShortShortInt(-1), -1),
            (AMQPValue::ShortShortUInt(255), 255),
            (AMQPValue::ShortInt(-300), -300),
            (AMQPValue::ShortUInt(60_000), 60_000),
            (AMQPValue::LongInt(i32::MIN), i64::from(i32::MIN)),
            (AMQPValue::LongUInt(u32::MAX), i64::from(u32::MAX)),
            (AMQPValue::LongLongInt(i64::MAX), i64::MAX),
        ] {
            assert_eq!(read("n", &value), Ok(Some(Given::Integer(expected))));
        }
    }

    #[test]
    fn text_is_read_from_every_type_that_holds_it() {
        let text = Ok(Some(Given::Text("é🦀".into())));
        assert_eq!(read("x", &AMQPValue::ShortString("é🦀".into())), text);
        assert_eq!(read("x", &AMQPValue::LongString("é🦀".into())), text);
        assert_eq!(read("subject", &AMQPValue::ByteArray(ByteArray::from("é🦀".as_bytes()))), text);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let refused = Err(Invalid::attribute("x", Problem::Utf8));
        assert_eq!(read("x", &AMQPValue::LongString(vec![0xff].into())), refused);
        let refused = Err(Invalid::attribute("id", Problem::Utf8));
        assert_eq!(read("id", &AMQPValue::ByteArray(vec![0xc3].into())), refused);
    }

    #[test]
    fn bytes_of_an_extension_are_base64() {
        let read = |bytes: &[u8]| {
            read("x", &AMQPValue::ByteArray(ByteArray::from(bytes))).map(|given| given.map(Given::into_owned))
        };
        assert_eq!(read(&[0xff, 0xfe]), Ok(Some(Given::Text("//4=".into()))));
        assert_eq!(read(b"text"), Ok(Some(Given::Text("dGV4dA==".into()))));
    }

    #[test]
    fn timestamps_beyond_the_calendar_are_refused() {
        assert_eq!(
            read("time", &AMQPValue::Timestamp(1_522_900_584)),
            Ok(DateTime::from_timestamp(1_522_900_584, 0).map(Given::Time))
        );
        assert_eq!(
            read("time", &AMQPValue::Timestamp(u64::MAX)),
            Err(Invalid::attribute("time", Problem::Time))
        );
        assert_eq!(
            read("time", &AMQPValue::Timestamp(1 << 60)),
            Err(Invalid::attribute("time", Problem::Time))
        );
    }

    #[test]
    fn null_is_absence_and_types_unknown_to_cloudevents_are_refused() {
        assert_eq!(read("x", &AMQPValue::Void), Ok(None));
        for value in [
            AMQPValue::Float(1.0),
            AMQPValue::Double(1.0),
            AMQPValue::DecimalValue(DecimalValue { scale: 0, value: 1 }),
            AMQPValue::FieldArray(FieldArray::default()),
            AMQPValue::FieldTable(FieldTable::default()),
        ] {
            assert_eq!(read("x", &value), Err(Invalid::attribute("x", Problem::Type)));
        }
    }
}
