//! The second way: an array. It is what current clients of Phoenix speak.

use serde_json::Value;

use super::{Incoming, Unreadable, reference};

type Read = (Value, Value, String, String, Value);

pub fn read(text: &str) -> Result<Incoming, Unreadable> {
    let (join, own, topic, event, payload): Read = serde_json::from_str(text).map_err(|_| Unreadable)?;
    Ok(Incoming { reference: reference(own)?, join_reference: reference(join)?, topic, event, payload })
}

pub fn write(join: &Value, own: &Value, topic: &str, event: &str, payload: &Value) -> String {
    // Values and texts are JSON always.
    serde_json::to_string(&(join, own, topic, event, payload)).unwrap_or_default()
}
