//! What is wrong with a value of the configuration, in words for whoever wrote it: the path of the field and what is wanted there. Never the
//! value, which may be a secret. Faults that take two fields to see are told by `Section::validate`.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

/// A fault of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field's keys, the innermost first.
    path: Vec<String>,
    what: String,
}

impl Fault {
    /// A fault whose path is told by `within`, from the inside out.
    pub fn new(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), what: what.into() }
    }

    /// The same, seen from the table or list that holds the field as `key`.
    pub fn within(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        if path.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", path.join("."), self.what) }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        Self::new(text.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(wanted_here(&wanted.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(wanted_here(&wanted.to_string()))
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> Self {
        let wanted = in_words(&wanted.to_string()).unwrap_or_else(|| "another number".to_owned());
        Self::new(format!("has {length} values; {wanted} of them is wanted here"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("must be one of {}", known.join(", ")))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("there is no such setting; those here are {}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("is missing").within(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new("is given twice").within(field)
    }
}

fn wanted_here(wanted: &str) -> String {
    match in_words(wanted) {
        Some(words) => format!("{words} is wanted here"),
        // What a library says of a text that it cannot read, such as "relative URL without a base".
        None => format!("is not valid: {wanted}"),
    }
}

/// What a type of Rust, as serde names it, is called in a configuration. `None`: it is a sentence already.
fn in_words(wanted: &str) -> Option<String> {
    let words = match wanted {
        "a string" | "string" | "str" | "a borrowed string" | "path string" | "a character" => "a text",
        "a boolean" | "bool" => "true or false",
        "a duration" => "a duration such as 10s, 15min or 24h",
        "a sequence" | "an array" | "a list" => "a list",
        "a map" => "a table of settings",
        "socket address" => "an address with its port, such as 127.0.0.1:8080,",
        "u8" => "a whole number from 0 to 255",
        "u16" | "a nonzero u16" => "a whole number up to 65535",
        "u32" | "u64" | "usize" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number that is not negative"
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        _ if wanted.starts_with("struct ") => "a table of settings",
        _ if wanted.starts_with('(') || wanted.starts_with("tuple ") => "a list",
        _ if wanted.starts_with("enum ") || wanted.starts_with("variant ") => "one of its names",
        _ if wanted.starts_with("a ") || wanted.starts_with("an ") => wanted,
        _ => return None,
    };
    Some(words.to_owned())
}
