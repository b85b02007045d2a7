//! Which events an endpoint gets: beginnings of types, exact attributes, and a subset of CloudEvents SQL 1.0.
//!
//! The subset: attributes, texts, whole numbers, `TRUE` and `FALSE`; `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`; `AND`, `OR`, `XOR`, `NOT`; `LIKE`, `IN`, `EXISTS`.
//! Arithmetic and functions are refused by name. Every expression costs a time that grows with its length, which is bounded.

mod eval;
mod parse;

use serde_json::{Map, Value};

pub use parse::{Expression, FilterError, parse};

/// A filter, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Beginnings of types; none: all.
    pub types: Vec<String>,
    /// Attributes and the texts that they must be.
    pub attributes: Vec<(String, String)>,
    /// CloudEvents SQL.
    pub expression: Option<Expression>,
}

impl Filter {
    /// Whether it wants an event of these attributes. An expression that cannot be worked out (a missing attribute, a text that is no number) wants it not.
    pub fn wants(&self, ty: &str, attributes: &Map<String, Value>) -> bool {
        let by_type =
            self.types.is_empty() || self.types.iter().any(|beginning| ty.starts_with(beginning.as_str()));
        by_type
            && self.attributes.iter().all(|(name, wanted)| {
                attributes.get(name).is_some_and(|value| match value {
                    Value::String(text) => text == wanted,
                    other => format!("{other}") == *wanted,
                })
            })
            && self.expression.as_ref().is_none_or(|expression| eval::wants(expression, attributes))
    }
}

/// Attributes and their texts, as an endpoint has them.
pub fn attributes(object: &Value) -> Vec<(String, String)> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Map<String, Value> {
        let event = json!({"specversion": "1.0", "id": "7", "source": "/acme/shop", "type": "com.acme.order.v1",
            "subject": "o'hara", "count": 5, "urgent": true, "size": "12", "word": "a%b_c"});
        event.as_object().unwrap().clone()
    }

    fn wants(expression: &str) -> bool {
        let expression = parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        Filter { expression: Some(expression), ..Filter::default() }.wants("com.acme.order.v1", &event())
    }

    #[test]
    fn expressions_are_worked_out() {
        for yes in [
            "type = 'com.acme.order.v1'",
            "TYPE <> \"other\"",
            "subject = 'o\\'hara'",
            "source LIKE '/acme/%' AND count > 4",
            "count IN (1, 5) OR FALSE",
            "NOT (urgent = FALSE)",
            "urgent",
            "urgent XOR count = 6",
            "EXISTS subject AND NOT EXISTS missing",
            "size = 12 AND size >= 12 AND size < 13",
            "id != 8 AND id = '7'",
            "word LIKE 'a\\%b\\_c'",
            "word LIKE '_\\%___'",
            "type NOT LIKE 'org.%'",
            "count NOT IN (1, 2)",
            "count = -5 OR -5 < count",
            "FALSE AND missing = 1 OR TRUE",
            "urgent = 'true'",
        ] {
            assert!(wants(yes), "{yes}");
        }
        for no in [
            "type = 'com.acme'",
            "missing = 'x'",
            "NOT missing = 'x'",
            "missing = 'x' OR FALSE",
            "subject > 5",
            "count > 5",
            "word LIKE 'a%b\\_d'",
            "source",
            "EXISTS missing",
            "urgent XOR TRUE",
        ] {
            assert!(!wants(no), "{no}");
        }
    }

    #[test]
    fn what_is_beyond_the_subset_is_refused_by_name() {
        for (text, part) in [
            ("LENGTH(subject) > 3", "LENGTH"),
            ("count + 1 = 2", "'+'"),
            ("count * 2 = 2", "'*'"),
            ("count % 2 = 0", "'%'"),
            ("count - 1 = 0", "'-'"),
            ("", "end"),
            ("a =", "end"),
            ("a = 'x", "quote"),
            ("(a = 1", "')'"),
            ("a = 1 b", "'b'"),
            ("a IN ()", "IN"),
            ("a = 99999999999", "32 bits"),
            ("data = 1", "data"),
            ("a = 1; DROP", "';'"),
            ("a LIKE b", "LIKE"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&"(".repeat(2_000)).is_err());
        assert!(parse(&format!("{}a = 1", "NOT ".repeat(100))).unwrap_err().to_string().contains("deep"));
        let long = format!("a = 1{}", " OR a = 1".repeat(200));
        assert!(parse(&long).unwrap_err().to_string().contains("1024"));
    }

    #[test]
    fn an_expensive_pattern_takes_no_longer_than_its_length() {
        let text = "a".repeat(7_000);
        let mut event = event();
        event.insert("long".to_owned(), Value::from(text));
        let expression = format!("long LIKE '{}b'", "%a".repeat(300));
        let filter = Filter { expression: Some(parse(&expression).unwrap()), ..Filter::default() };
        let begun = std::time::Instant::now();
        for _ in 0..10 {
            assert!(!filter.wants("t", &event));
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    #[test]
    fn types_and_attributes_come_first() {
        let filter = Filter {
            types: vec!["com.acme.".to_owned()],
            attributes: vec![
                ("source".to_owned(), "/acme/shop".to_owned()),
                ("count".to_owned(), "5".to_owned()),
            ],
            expression: None,
        };
        assert!(filter.wants("com.acme.order.v1", &event()));
        assert!(!filter.wants("com.acmeshop.order", &event()));
        let mut other = event();
        other.insert("source".to_owned(), Value::from("/beta"));
        assert!(!filter.wants("com.acme.order.v1", &other));
    }
}
