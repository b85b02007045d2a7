//! The first way: an object. It is what a client without `vsn` speaks, such as the library of Turms.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Incoming, Unreadable, reference};

#[derive(Deserialize)]
struct Read {
    topic: String,
    event: String,
    #[serde(default)]
    payload: Value,
    #[serde(default, rename = "ref")]
    reference: Value,
}

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    event: &'a str,
    #[serde(rename = "ref")]
    reference: &'a Value,
    payload: &'a Value,
}

pub fn read(text: &str) -> Result<Incoming, Unreadable> {
    // An array of these fields in their order would be read as well.
    if !text.trim_start().starts_with('{') {
        return Err(Unreadable);
    }
    let read: Read = serde_json::from_str(text).map_err(|_| Unreadable)?;
    Ok(Incoming {
        reference: reference(read.reference)?,
        join_reference: Value::Null,
        topic: read.topic,
        event: read.event,
        payload: read.payload,
    })
}

pub fn write(topic: &str, event: &str, payload: &Value, reference: &Value) -> String {
    // Values and texts are JSON always.
    serde_json::to_string(&Written { topic, event, reference, payload }).unwrap_or_default()
}
