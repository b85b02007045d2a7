//! Whether a new version of a schema accepts all that the one before accepted. In general nobody can tell; so what may change is a short list, and whatever
//! else differs is refused. A change beyond it is a new type.

use serde_json::{Map, Value};

/// Words that say nothing about what is accepted.
const REMARKS: [&str; 7] = ["$id", "$schema", "$comment", "title", "description", "examples", "default"];
/// How deep schemas may nest.
const DEEPEST: usize = 32;

/// Whether data that `old` accepts is accepted by `new`.
///
/// # Errors
/// Where it may not be, and why.
pub fn check(old: &Value, new: &Value) -> Result<(), String> {
    compare(old, new, "", 0)
}

fn compare(old: &Value, new: &Value, at: &str, depth: usize) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{}: {what}", if at.is_empty() { "/" } else { at }));
    if depth > DEEPEST {
        return fault("nests too deep");
    }
    if old == new || *new == Value::Bool(true) || *old == Value::Bool(false) {
        return Ok(());
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return fault("is no schema that can be compared");
    };
    let words = old.keys().chain(new.keys()).filter(|word| !REMARKS.contains(&word.as_str()));
    for word in words {
        let (before, after) = (old.get(word), new.get(word));
        let kept = match (word.as_str(), before, after) {
            // A rule that is gone forbids nothing.
            ("required" | "enum" | "const" | "pattern" | "format" | "type" | "uniqueItems", _, None) => true,
            ("minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties", _, None) => true,
            ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties", _, None) => true,
            ("multipleOf", _, None) => true,
            (_, before, after) if before == after => true,
            ("required", before, Some(after)) => holds(before, after),
            ("enum", Some(before), Some(after)) => holds(Some(after), before),
            ("type", Some(before), Some(after)) => !types(after).is_empty() && widened(before, after),
            (
                "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties",
                Some(before),
                Some(after),
            ) => number(after) <= number(before),
            (
                "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties",
                Some(before),
                Some(after),
            ) => number(after) >= number(before),
            ("properties", before, after) => {
                properties(old, before, after, &format!("{at}/properties"), depth)?;
                true
            }
            ("items", Some(before), Some(after)) => {
                compare(before, after, &format!("{at}/items"), depth + 1)?;
                true
            }
            ("items", Some(_), None) => true,
            ("additionalProperties", before, after) => additional(before, after, at, depth)?,
            _ => false,
        };
        if !kept {
            return fault(&format!("'{word}' must not become stricter, or cannot be compared"));
        }
    }
    Ok(())
}

/// A property that is there stays and becomes no stricter; a new one is free only where it was forbidden before, or accepts anything.
fn properties(
    old: &Map<String, Value>,
    before: Option<&Value>,
    after: Option<&Value>,
    at: &str,
    depth: usize,
) -> Result<(), String> {
    let empty = Map::new();
    let map =
        |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone());
    let (before, after) = (map(before), map(after));
    for (name, schema) in &before {
        match after.get(name) {
            Some(new) => compare(schema, new, &format!("{at}/{name}"), depth + 1)?,
            None => return Err(format!("{at}/{name}: must stay")),
        }
    }
    let was_closed = old.get("additionalProperties") == Some(&Value::Bool(false));
    match after.iter().find(|(name, schema)| {
        !before.contains_key(*name)
            && !was_closed
            && **schema != Value::Bool(true)
            && **schema != Value::Object(Map::new())
    }) {
        // Data of before may hold anything under that name.
        Some((name, _)) => Err(format!(
            "{at}/{name}: a new property is free only where additionalProperties was false; make a new type"
        )),
        None => Ok(()),
    }
}

fn additional(before: Option<&Value>, after: Option<&Value>, at: &str, depth: usize) -> Result<bool, String> {
    let open = Value::Bool(true);
    compare(
        before.unwrap_or(&open),
        after.unwrap_or(&open),
        &format!("{at}/additionalProperties"),
        depth + 1,
    )?;
    Ok(true)
}

/// Whether all of `wanted` stand in `list`.
fn holds(list: Option<&Value>, wanted: &Value) -> bool {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    wanted.as_array().is_some_and(|wanted| wanted.iter().all(|value| list.contains(value)))
}

fn types(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn widened(before: &Value, after: &Value) -> bool {
    let after = types(after);
    types(before).iter().all(|ty| after.contains(ty) || (*ty == "integer" && after.contains(&"number")))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed() -> Value {
        json!({"type": "object", "required": ["total"], "additionalProperties": false,
               "properties": {"total": {"type": "integer", "minimum": 0}, "state": {"enum": ["open", "paid"]}}})
    }

    fn with(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut new = closed();
        change(&mut new);
        check(&closed(), &new)
    }

    #[test]
    fn what_accepts_more_may_follow() {
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|new| new["description"] = json!("an order")), Ok(()));
        assert_eq!(with(|new| new["required"] = json!([])), Ok(()));
        assert_eq!(with(|new| new["properties"]["note"] = json!({"type": "string"})), Ok(()));
        assert_eq!(with(|new| new["properties"]["total"] = json!({"type": "number", "minimum": -1})), Ok(()));
        assert_eq!(
            with(|new| new["properties"]["state"] = json!({"enum": ["paid", "open", "gone"]})),
            Ok(())
        );
        assert_eq!(with(|new| new["additionalProperties"] = json!(true)), Ok(()));
    }

    #[test]
    fn what_may_accept_less_is_refused_with_its_place() {
        type Change = Box<dyn FnOnce(&mut Value)>;
        let changes: [(Change, &str); _] = [
            (Box::new(|new: &mut Value| new["required"] = json!(["total", "state"])), "required"),
            (
                Box::new(|new: &mut Value| new["properties"]["total"]["minimum"] = json!(1)),
                "/properties/total",
            ),
            (
                Box::new(|new: &mut Value| new["properties"]["total"]["type"] = json!("string")),
                "/properties/total",
            ),
            (
                Box::new(|new: &mut Value| new["properties"]["state"]["enum"] = json!(["open"])),
                "/properties/state",
            ),
            (
                Box::new(|new: &mut Value| {
                    new["properties"] = json!({"total": {"type": "integer", "minimum": 0}})
                }),
                "/properties/state",
            ),
            (Box::new(|new: &mut Value| new["not"] = json!({"required": ["state"]})), "'not'"),
            (Box::new(|new: &mut Value| new["maxProperties"] = json!(1)), "maxProperties"),
        ];
        for (change, place) in changes {
            let error = with(change).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
        let open = json!({"type": "object"});
        assert!(check(&open, &json!({"type": "object", "properties": {"a": {"type": "string"}}})).is_err());
        assert!(check(&json!({"a": 1}), &json!(false)).is_err());
    }
}
