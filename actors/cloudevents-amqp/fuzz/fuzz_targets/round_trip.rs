//! What was read once can be written in both modes, unless binary mode refuses it, and reads as the same event again.
#![no_main]

use cloudevents::{AttributesReader, Data, Event};
use cloudevents_amqp::{decode, encode_binary, encode_structured};
use cloudevents_amqp_fuzz::message;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let (properties, body) = message(input);
    let Ok(event) = decode(&properties, body) else { return };
    if json(&event).is_some_and(|value| !keeps(&value, 100)) {
        return;
    }
    let structured = encode_structured(&event).expect("an event that was read can be written");
    assert_eq!(decode(&structured.properties, &structured.body).expect("structured"), event);
    if let Ok(binary) = encode_binary(&event) {
        let again = decode(&binary.properties, &binary.body).expect("binary");
        assert_eq!(attributes(&again), attributes(&event));
        assert_eq!(bytes(&again), bytes(&event));
    }
});

/// Whether JSON comes back as it was: fractions do only to the last bit but one, and nesting has its limit (README, "What to know").
fn keeps(value: &Value, levels: u32) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => levels > 0 && values.iter().all(|value| keeps(value, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|value| keeps(value, levels - 1)),
        _ => true,
    }
}

/// All but the content type, which JSON without one is given in binary mode.
fn attributes(event: &Event) -> Vec<(String, String)> {
    let mut attributes: Vec<_> =
        event.iter_extensions().map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect();
    attributes.sort();
    let own = [
        ("id", event.id().to_owned()),
        ("source", event.source().clone()),
        ("type", event.ty().to_owned()),
        ("subject", format!("{:?}", event.subject())),
        ("time", format!("{:?}", event.time())),
        ("dataschema", format!("{:?}", event.dataschema())),
    ];
    attributes.extend(own.map(|(name, value)| (name.to_owned(), value)));
    attributes
}

/// The data as JSON, if it is that, or is read as that in binary mode.
fn json(event: &Event) -> Option<Value> {
    let is_json = event.datacontenttype().is_some_and(|ty| ty.to_ascii_lowercase().contains("json"));
    match event.data()? {
        Data::Json(value) => Some(value.clone()),
        Data::Binary(bytes) if is_json => serde_json::from_slice(bytes).ok(),
        Data::String(text) if is_json => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// The data as bytes, JSON written anew; none and no bytes are the same.
fn bytes(event: &Event) -> Vec<u8> {
    match (json(event), event.data()) {
        (Some(value), _) => serde_json::to_vec(&value).expect("json"),
        (None, Some(Data::Binary(bytes))) => bytes.clone(),
        (None, Some(Data::String(text))) => text.clone().into_bytes(),
        (None, _) => Vec::new(),
    }
}
