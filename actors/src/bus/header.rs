//! Header values as JSON and back, so that a dead letter in the table is redriven as it came. Texts, whole numbers and booleans are
//! themselves; what JSON has no type for is an object that names its AMQP type: `{"timestamp": 1700000000}`, `{"bytes": "00ff"}`.

use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString};
use serde_json::{Map, Value, json};

/// A value as JSON; `None` for what has no meaning in a header of ours or of CloudEvents: decimals and void.
pub fn to_json(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => text.into(),
            Err(_) => json!({ "text": hex::encode(text.as_bytes()) }),
        },
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => (*n).into(),
        AMQPValue::Float(x) => json!({ "double": f64::from(*x) }),
        AMQPValue::Double(x) => json!({ "double": x }),
        AMQPValue::Timestamp(seconds) => json!({ "timestamp": seconds }),
        AMQPValue::ByteArray(bytes) => json!({ "bytes": hex::encode(bytes.as_slice()) }),
        AMQPValue::FieldArray(values) => {
            json!({ "array": values.as_slice().iter().filter_map(to_json).collect::<Vec<_>>() })
        }
        AMQPValue::FieldTable(fields) => json!({ "table": table_to_json(fields) }),
        AMQPValue::DecimalValue(_) | AMQPValue::Void => return None,
    })
}

/// Headers as a JSON object.
pub fn table_to_json(headers: &FieldTable) -> Map<String, Value> {
    let headers = headers.inner().iter();
    headers.filter_map(|(name, value)| Some((name.to_string(), to_json(value)?))).collect()
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
            AMQPValue::Boolean(false),
            AMQPValue::LongLongInt(-7),
            AMQPValue::Double(1.5),
            AMQPValue::Timestamp(1_700_000_000),
            AMQPValue::ByteArray(ByteArray::from(vec![0, 255])),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Timestamp(1)])),
            AMQPValue::FieldTable(table),
        ];
        for value in values {
            assert_eq!(from_json(&to_json(&value).unwrap()), Some(value));
        }
        assert_eq!(from_json(&to_json(&AMQPValue::LongUInt(9)).unwrap()), Some(AMQPValue::LongLongInt(9)));
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
