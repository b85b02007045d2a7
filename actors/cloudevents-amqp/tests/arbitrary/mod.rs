//! Strategies for valid events and for hostile messages, shared by the property tests.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cloudevents::{AttributesWriter, Data, Event, EventBuilder, EventBuilderV10, event::ExtensionValue};
use lapin::types::{AMQPValue, DecimalValue, FieldTable, ShortString};
use proptest::{collection, option, prelude::*};
use serde_json::Value;
use url::Url;

/// Unicode text without what CloudEvents forbids; `[^\p{C}]` leaves out control characters, noncharacters and the unassigned.
const TEXT: &str = "[^\\p{C}]{1,40}";

/// Data with the content type it travels under.
type Typed = (Option<String>, Option<Data>);

/// Any valid event whose data survives binary mode unchanged.
pub fn binary_event() -> impl Strategy<Value = Event> {
    event(typed(false))
}

/// Any valid event whose data survives structured mode unchanged.
pub fn structured_event() -> impl Strategy<Value = Event> {
    event(typed(true))
}

fn event(typed: impl Strategy<Value = Typed>) -> impl Strategy<Value = Event> {
    let source = prop_oneof![
        Just("/".to_owned()),
        "(/[a-zA-Z0-9._~-]{1,12}){1,4}",
        "urn:uuid:[0-9a-f]{8}",
        "https://[a-z]{1,10}\\.example(:[1-9][0-9]{0,3})?/(%[0-9A-F]{2}){0,3}\\?q=[a-z:/@!$]{0,8}(#[a-z]{0,5})?",
    ];
    let schema = option::of("https://[a-z]{1,10}\\.example/[a-z0-9./-]{0,10}");
    let required = (TEXT, source, TEXT);
    let optional = (option::of(TEXT), schema, option::of(time()));
    let extensions = collection::btree_map(extension_name(), extension_value(), 0..6);
    (required, optional, extensions, typed).prop_map(
        |(required, optional, extensions, (content_type, data))| {
            let (id, source, ty) = required;
            let (subject, schema, time) = optional;
            let mut event = EventBuilderV10::new().id(id).source(source).ty(ty).build().unwrap();
            event.set_subject(subject);
            event.set_dataschema(schema.map(|schema| Url::parse(&schema).unwrap()));
            event.set_time(time);
            event.set_datacontenttype(content_type);
            if let Some(data) = data {
                event.set_data_unchecked(data);
            }
            for (name, value) in extensions {
                event.set_extension(&name, value);
            }
            event
        },
    )
}

/// Every instant that RFC 3339 can write, to the nanosecond.
fn time() -> impl Strategy<Value = DateTime<Utc>> {
    (-62_167_219_200_i64..=253_402_300_799, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
}

fn extension_name() -> impl Strategy<Value = String> {
    const RESERVED: [&str; 9] =
        ["data", "specversion", "id", "type", "source", "subject", "time", "dataschema", "datacontenttype"];
    prop_oneof![Just("traceparent".to_owned()), "[a-z0-9]{1,30}"]
        .prop_filter("an attribute's name", |name| !RESERVED.contains(&name.as_str()))
}

fn extension_value() -> impl Strategy<Value = ExtensionValue> {
    prop_oneof![
        "[^\\p{C}]{0,40}".prop_map(ExtensionValue::String),
        any::<bool>().prop_map(ExtensionValue::Boolean),
        any::<i32>().prop_map(|value| ExtensionValue::Integer(i64::from(value))),
    ]
}

fn typed(structured: bool) -> impl Strategy<Value = Typed> {
    let json_type = prop_oneof![
        Just("application/json"),
        Just("application/json; charset=utf-8"),
        Just("Application/Problem+JSON"),
    ];
    let other_type =
        prop_oneof![Just("text/plain; charset=utf-8"), Just("application/octet-stream"), Just("x")];
    let bytes = || collection::vec(any::<u8>(), 1..100);
    prop_oneof![
        Just((None, None)),
        json_type.clone().prop_map(|json_type| (Some(json_type.to_owned()), None)),
        (json_type, json())
            .prop_map(|(json_type, value)| (Some(json_type.to_owned()), Some(Data::Json(value)))),
        (other_type, bytes(), any::<String>()).prop_map(move |(other_type, bytes, text)| {
            // Only JSON has a way to tell text from bytes.
            let data =
                if structured && bytes.len() % 2 == 0 { Data::String(text) } else { Data::Binary(bytes) };
            (Some(other_type.to_owned()), Some(data))
        }),
        bytes().prop_map(|bytes| (None, Some(Data::Binary(bytes)))),
    ]
}

/// JSON without fractions: serde_json reads those back to the last bit only with a feature that we do not ask for.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// Any header table: names that are, look like, or are not ours; values of every AMQP type, nested ones included.
pub fn hostile_headers() -> impl Strategy<Value = FieldTable> {
    let name = prop_oneof![
        "(cloudEvents|CLOUDEVENTS|cloudevent)[_:-]?(id|source|type|specversion|time|dataschema|data|datacontenttype|subject|x)?",
        ".{0,60}",
    ];
    collection::btree_map(name, amqp_value(), 0..12).prop_map(table)
}

fn amqp_value() -> impl Strategy<Value = AMQPValue> {
    let text = prop_oneof![Just("1.0".to_owned()), Just("/x".to_owned()), any::<String>()];
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_map(AMQPValue::Float),
        any::<f64>().prop_map(AMQPValue::Double),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        ".{0,20}".prop_map(|text| AMQPValue::ShortString(text.into())),
        text.prop_map(|text| AMQPValue::LongString(text.into())),
        collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
            collection::btree_map(".{0,20}", inner, 0..4)
                .prop_map(|values| AMQPValue::FieldTable(table(values))),
        ]
    })
}

fn table(values: BTreeMap<String, AMQPValue>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in values {
        table.insert(ShortString::from(name), value);
    }
    table
}

/// Any body: bytes, JSON, and JSON objects that nearly are events.
pub fn hostile_body() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        "specversion|id|source|type|subject|time|dataschema|datacontenttype|data|data_base64",
        any::<String>(),
    ];
    let value = prop_oneof![
        Just(Value::from("1.0")),
        Just(Value::from("/x")),
        Just(Value::from("text/plain")),
        any::<f64>().prop_map(Value::from),
        json(),
    ];
    prop_oneof![
        collection::vec(any::<u8>(), 0..200),
        json().prop_map(|value| value.to_string().into_bytes()),
        collection::btree_map(member, value, 0..10).prop_map(|members| {
            let mut envelope: serde_json::Map<String, Value> = members.into_iter().collect();
            envelope.entry("specversion").or_insert_with(|| "1.0".into());
            Value::Object(envelope).to_string().into_bytes()
        }),
    ]
}
