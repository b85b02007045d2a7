//! Header values as JSON and back, so that a dead letter in the table is redriven as it came. Texts, whole numbers and booleans are
//! themselves; what JSON has no type for is an object that names its AMQP type: `{"timestamp": 1700000000}`, `{"bytes": "00ff"}`.

use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString};
use serde_json::{Map, Value, json};

/// How deep tables and arrays may lie in each other; serde reads JSON to a depth of 128, and each level here is two there.
const MAX_DEPTH: usize = 8;

/// A value as JSON that PostgreSQL keeps; `None` for what has no meaning in a header of ours or of CloudEvents: decimals, void, what is no number,
/// what lies too deep.
pub fn to_json(value: &AMQPValue) -> Option<Value> {
    to_depth(value, MAX_DEPTH)
}

fn to_depth(value: &AMQPValue, depth: usize) -> Option<Value> {
    let deeper = depth.checked_sub(1);
    Some(match value {
        // PostgreSQL's JSON has no NUL.
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) if !text.contains('\0') => text.into(),
            _ => json!({ "text": hex::encode(text.as_bytes()) }),
        },
        AMQPValue::ShortString(text) if text.as_str().contains('\0') => {
            json!({ "text": hex::encode(text.as_str()) })
        }
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => (*n).into(),
        AMQPValue::Float(x) if x.is_finite() => json!({ "double": f64::from(*x) }),
        AMQPValue::Double(x) if x.is_finite() => json!({ "double": x }),
        AMQPValue::Timestamp(seconds) => json!({ "timestamp": seconds }),
        AMQPValue::ByteArray(bytes) => json!({ "bytes": hex::encode(bytes.as_slice()) }),
        AMQPValue::FieldArray(values) => {
            let deeper = deeper?;
            let values = values.as_slice().iter().filter_map(|value| to_depth(value, deeper));
            json!({ "array": values.collect::<Vec<_>>() })
        }
        AMQPValue::FieldTable(fields) => json!({ "table": table_to_depth(fields, deeper?) }),
        AMQPValue::Float(_) | AMQPValue::Double(_) | AMQPValue::DecimalValue(_) | AMQPValue::Void => {
            return None;
        }
    })
}

/// Headers as a JSON object.
pub fn table_to_json(headers: &FieldTable) -> Map<String, Value> {
    table_to_depth(headers, MAX_DEPTH)
}

fn table_to_depth(headers: &FieldTable, depth: usize) -> Map<String, Value> {
    let headers = headers.inner().iter().filter(|(name, _)| !name.as_str().contains('\0'));
    headers.filter_map(|(name, value)| Some((name.to_string(), to_depth(value, depth)?))).collect()
}

/// The value that [`to_json`] wrote, whole numbers as 64 bits; `None` for anything else.
pub fn from_json(value: &Value) -> Option<AMQPValue> {
    Some(match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => AMQPValue::LongLongInt(number.as_i64()?),
        Value::Object(typed) => {
            let (ty, value) = typed.iter().next().filter(|_| typed.len() == 1)?;
            match ty.as_str() {
                "text" => AMQPValue::LongString(LongString::from(hex::decode(value.as_str()?).ok()?)),
                "double" => AMQPValue::Double(value.as_f64()?),
                "timestamp" => AMQPValue::Timestamp(value.as_u64()?),
                "bytes" => AMQPValue::ByteArray(ByteArray::from(hex::decode(value.as_str()?).ok()?)),
                "array" => {
                    let values = value.as_array()?.iter().map(from_json).collect::<Option<Vec<_>>>()?;
                    AMQPValue::FieldArray(FieldArray::from(values))
                }
                "table" => {
                    let mut fields = FieldTable::default();
                    for (name, value) in value.as_object()? {
                        let name = lapin::types::ShortString::try_new(name.as_str()).ok()?;
                        fields.insert(name, from_json(value)?);
                    }
                    AMQPValue::FieldTable(fields)
                }
                _ => return None,
            }
        }
        Value::Null | Value::Array(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloudevents_put_into_headers_comes_back_as_it_was() {
        let mut table = FieldTable::default();
        table.insert("b".into(), AMQPValue::Boolean(true));
        let values = [
            AMQPValue::LongString("text".into()),
            AMQPValue::LongString(LongString::from(vec![0xff, 0xfe])),
            AMQPValue::LongString("a\0b".into()),
            AMQPValue::Boolean(false),
            AMQPValue::LongLongInt(-7),
            AMQPValue::Double(1.5),
            AMQPValue::Timestamp(1_700_000_000),
            AMQPValue::ByteArray(ByteArray::from(vec![0, 255])),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Timestamp(1)])),
            AMQPValue::FieldTable(table),
        ];
        for value in values {
            // As it is kept.
            let kept = serde_json::to_string(&to_json(&value).unwrap()).unwrap();
            assert!(!kept.contains("\\u0000"), "{kept}");
            assert_eq!(from_json(&serde_json::from_str(&kept).unwrap()), Some(value));
        }
        assert_eq!(from_json(&to_json(&AMQPValue::LongUInt(9)).unwrap()), Some(AMQPValue::LongLongInt(9)));
    }

    #[test]
    fn what_could_not_be_kept_is_left_out() {
        let nested = |depth: usize| {
            (0..depth).fold(AMQPValue::Boolean(true), |inner, _| {
                AMQPValue::FieldArray(FieldArray::from(vec![inner]))
            })
        };
        let kept = |value: &AMQPValue| {
            let kept = serde_json::to_string(&to_json(value)).unwrap();
            serde_json::from_str::<Value>(&kept).unwrap()
        };
        assert_eq!(from_json(&kept(&nested(MAX_DEPTH))), Some(nested(MAX_DEPTH)));
        assert_eq!(kept(&nested(100)).to_string().matches("array").count(), MAX_DEPTH);
        for value in [AMQPValue::Double(f64::NAN), AMQPValue::Float(f32::INFINITY), AMQPValue::Void] {
            assert_eq!(to_json(&value), None);
        }
        let mut names = FieldTable::default();
        names.insert("a\0".into(), AMQPValue::Boolean(true));
        assert!(table_to_json(&names).is_empty());
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for text in
            ["null", "[1]", "1.5", "{}", r#"{"bytes": "0"}"#, r#"{"a": 1, "b": 2}"#, r#"{"timestamp": -1}"#]
        {
            assert_eq!(from_json(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}
