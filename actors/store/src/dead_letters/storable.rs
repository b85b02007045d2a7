//! What others wrote, made storable: PostgreSQL's texts and JSON have no NUL, its indices no long texts, its parser no endless depth.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// Bytes of a text that stands in an index; longer ones are known by their digest.
const KEY_BYTES: usize = 256;
/// Levels of headers; what lies deeper is left out.
const DEPTH: usize = 32;

/// Without NUL, and no longer than `chars`.
pub(super) fn text(text: &str, chars: usize) -> String {
    let mut kept: String = text.chars().take(chars).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(chars).is_some() {
        kept.push('…');
    }
    kept
}

/// A text for an index: the same for the same text, another for another.
pub(super) fn key(text: &str) -> String {
    if text.len() <= KEY_BYTES && !text.contains('\0') {
        return text.to_owned();
    }
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().fold("sha256:".to_owned(), |key, byte| format!("{key}{byte:02x}"))
}

/// Headers without NUL and without what lies too deep.
pub(super) fn json(value: Value) -> Value {
    at_depth(value, DEPTH)
}

fn at_depth(value: Value, left: usize) -> Value {
    let Some(deeper) = left.checked_sub(1) else { return Value::from("left out: too deep") };
    match value {
        Value::String(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").into(),
        Value::Array(values) => values.into_iter().map(|value| at_depth(value, deeper)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name.replace('\0', "\u{fffd}"), at_depth(value, deeper)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_place_in_postgresql_is_replaced() {
        assert_eq!(text("a\0b", 10), "a\u{fffd}b");
        assert_eq!(text("äöü", 2), "äö…");
        assert_eq!(key("letter"), "letter");
        assert_eq!(key(&"x".repeat(5000)).len(), 71);
        assert_ne!(key(&"x".repeat(5000)), key(&"x".repeat(5001)));
        assert!(!key("a\0b").contains('\0'));
        let mut deep = Value::from("end");
        for _ in 0..100 {
            deep = Value::Array(vec![deep]);
        }
        let shown = json(serde_json::json!({"a\0": ["b\0", deep]})).to_string();
        assert!(!shown.contains("\\u0000") && shown.contains("too deep"), "{shown}");
    }
}
