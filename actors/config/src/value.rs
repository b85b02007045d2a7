//! The tree of the configuration: values of TOML, and texts of variables. A text is read by the type of the field that it is for (a number, a
//! truth, a list `a,b`, a text as it is), so that no field has to say that its text is one. How the tree is made lives in `source`.

use std::{collections::BTreeMap, str::FromStr};

use serde::de::{
    Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{MapAccessDeserializer, StrDeserializer},
};
use serde::forward_to_deserialize_any;

use super::fault::Fault;

/// A part of the configuration.
#[derive(Clone)]
pub enum Value {
    /// A section, or a table in it.
    Table(BTreeMap<String, Value>),
    /// A list.
    List(Vec<Value>),
    /// What a variable or a secret's file holds: it has no type of its own.
    Text(String),
    /// A text, a number or a truth of TOML, which has one.
    Scalar(toml::Value),
}

impl From<toml::Value> for Value {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::Table(table) => table.into(),
            toml::Value::Array(values) => Self::List(values.into_iter().map(Self::from).collect()),
            scalar => Self::Scalar(scalar),
        }
    }
}

impl From<toml::Table> for Value {
    fn from(table: toml::Table) -> Self {
        Self::Table(table.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

/// Reads a text as TOML where it is written so: a list in brackets, a table in braces.
fn written_as_toml(text: &str) -> Result<Value, Fault> {
    let mut table: toml::Table = format!("value = {text}").parse().map_err(|error: toml::de::Error| {
        // The message, without the line that it is about.
        Fault::new(format!("is no TOML: {}", error.message().replace('\n', ", ")))
    })?;
    // Two settings on two lines would be a way to say something else than this value.
    match (table.remove("value"), table.is_empty()) {
        (Some(value), true) => Ok(value.into()),
        _ => Err(Fault::new("is no single value of TOML")),
    }
}

/// The parts of `a,b`, or of a list as TOML has it (`["a", "b"]`), which is needed for a part with a comma.
fn parts(text: &str) -> Result<Vec<Value>, Fault> {
    let text = text.trim();
    if text.starts_with('[') && text.ends_with(']') {
        return match written_as_toml(text)? {
            Value::List(values) => Ok(values),
            _ => Err(Fault::new("a list is wanted here")),
        };
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(parts.map(|part| Value::Text(part.to_owned())).collect())
}

fn number<T: FromStr>(text: &str, wanted: &str) -> Result<T, Fault> {
    text.trim().parse().map_err(|_| Fault::new(format!("{wanted} is wanted here")))
}

fn truth(text: &str) -> Result<bool, Fault> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Fault::new("true or false is wanted here")),
    }
}

impl Value {
    /// Hands over a value that has a type, for a field of whatever type: the two must fit.
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Table(table) => visitor.visit_map(Table { rest: table.into_iter(), next: None }),
            Self::List(values) => visitor.visit_seq(List(values.into_iter().enumerate())),
            Self::Text(text) => visitor.visit_string(text),
            Self::Scalar(toml::Value::String(text)) => visitor.visit_string(text),
            Self::Scalar(toml::Value::Integer(number)) => match u64::try_from(number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(number),
            },
            Self::Scalar(toml::Value::Float(number)) => visitor.visit_f64(number),
            Self::Scalar(toml::Value::Boolean(truth)) => visitor.visit_bool(truth),
            Self::Scalar(other) => visitor.visit_string(other.to_string()),
        }
    }
}

/// Methods for numbers: a text is read on demand, anything else has its type already.
macro_rules! numbers {
    ($($method:ident => $visit:ident, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self {
                Value::Text(text) => visitor.$visit(number(&text, $wanted)?),
                value => value.visit(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value {
    type Error = Fault;

    numbers! {
        deserialize_i8 => visit_i64, "a whole number";
        deserialize_i16 => visit_i64, "a whole number";
        deserialize_i32 => visit_i64, "a whole number";
        deserialize_i64 => visit_i64, "a whole number";
        deserialize_u8 => visit_u64, "a whole number from 0 to 255";
        deserialize_u16 => visit_u64, "a whole number up to 65535";
        deserialize_u32 => visit_u64, "a whole number that is not negative";
        deserialize_u64 => visit_u64, "a whole number that is not negative";
        deserialize_f32 => visit_f64, "a number";
        deserialize_f64 => visit_f64, "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) => visitor.visit_bool(truth(&text)?),
            value => value.visit(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            // A variable that is set to nothing, as compose files have it, is one that is not set.
            Self::Text(text) if text.trim().is_empty() => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) => Self::List(parts(&text)?).visit(visitor),
            value => value.visit(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) if text.trim().starts_with('{') => written_as_toml(text.trim())?.visit(visitor),
            value => value.visit(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A text would be handed to a type that reads itself from one; a list is no table.
        match self {
            Self::List(_) => Err(Fault::new("a table of settings is wanted here")),
            value => value.deserialize_map(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) | Self::Scalar(toml::Value::String(text)) => {
                let text: StrDeserializer<'_, Fault> = text.trim().into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            Self::Table(table) => {
                let table = Table { rest: table.into_iter(), next: None };
                MapAccessDeserializer::new(table).deserialize_enum(name, variants, visitor)
            }
            _ => Err(Fault::new(format!("must be one of {}", variants.join(", ")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char str string bytes byte_buf unit unit_struct identifier }
}

impl IntoDeserializer<'_, Fault> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// What is left of a table, and the value whose key was read last.
struct Table {
    rest: std::collections::btree_map::IntoIter<String, Value>,
    next: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Table {
    type Error = Fault;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        let read: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        let read = seed.deserialize(read).map_err(|fault| fault.within(key.as_str()))?;
        self.next = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: serde::de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, value) = self.next.take().ok_or_else(|| Fault::new("has a value without a key"))?;
        seed.deserialize(value).map_err(|fault| fault.within(key))
    }
}

/// What is left of a list, with its places.
struct List(std::iter::Enumerate<std::vec::IntoIter<Value>>);

impl<'de> SeqAccess<'de> for List {
    type Error = Fault;

    fn next_element_seed<S: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((place, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(value).map(Some).map_err(|fault| fault.within(place.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::PathBuf, time::Duration};

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Fields {
        text: String,
        optional: Option<String>,
        path: Option<PathBuf>,
        number: u16,
        signed: i64,
        share: f64,
        truth: bool,
        kind: Option<Kind>,
        listen: Option<SocketAddr>,
        #[serde(with = "humantime_serde")]
        wait: Option<Duration>,
        texts: Vec<String>,
        numbers: Vec<u32>,
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
    }

    fn read(fields: &[(&str, &str)]) -> Result<Fields, String> {
        let table = fields.iter().map(|(key, text)| ((*key).to_owned(), Value::Text((*text).to_owned())));
        Fields::deserialize(Value::Table(table.collect())).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_text_is_what_its_field_makes_of_it() {
        // Each of these looks like something else to whoever guesses types.
        for text in
            ["2026", "1.10", "007007", "true", "\"q\"", "'q'", "[::1]", "a,b", "{x}", " x ", "", "1e3", "~"]
        {
            assert_eq!(read(&[("text", text)]).unwrap().text, text);
        }
        let fields = read(&[
            ("number", " 42 "),
            ("signed", "-1"),
            ("share", "1"),
            ("truth", "True"),
            ("kind", "two"),
            ("listen", "[::1]:80"),
            ("wait", "15min"),
            ("path", "0123"),
        ])
        .unwrap();
        assert_eq!((fields.number, fields.signed, fields.truth), (42, -1, true));
        assert!((fields.share - 1.0).abs() < f64::EPSILON);
        assert_eq!(fields.kind, Some(Kind::Two));
        assert_eq!(fields.listen.unwrap().port(), 80);
        assert_eq!(fields.wait, Some(Duration::from_secs(900)));
        assert_eq!(fields.path, Some(PathBuf::from("0123")));
    }

    #[test]
    fn a_list_is_parts_with_commas_or_toml() {
        for (text, wanted) in [
            ("0123,456", vec!["0123", "456"]),
            (" a , b,", vec!["a", "b"]),
            ("x", vec!["x"]),
            ("", vec![]),
            ("[\"a,b\", 'c']", vec!["a,b", "c"]),
        ] {
            assert_eq!(read(&[("texts", text)]).unwrap().texts, wanted, "{text}");
        }
        assert_eq!(read(&[("numbers", "007,8")]).unwrap().numbers, [7, 8]);
        assert_eq!(read(&[("inner", "[{name = 'a'}, {name = 'b'}]")]).unwrap().inner[1].name, "b");
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_is_not_set() {
        assert_eq!(read(&[("optional", ""), ("wait", " ")]).unwrap().optional, None);
    }

    #[test]
    fn a_fault_is_in_words_and_hides_the_value() {
        for (key, text, fault) in [
            ("number", "hunter2", "number: a whole number up to 65535 is wanted here"),
            ("number", "65536", "number: a whole number up to 65535 is wanted here"),
            ("number", "-1", "number: a whole number up to 65535 is wanted here"),
            ("truth", "hunter2", "truth: true or false is wanted here"),
            ("kind", "hunter2", "kind: must be one of one, two"),
            ("wait", "hunter2", "wait: a duration such as 10s, 15min or 24h is wanted here"),
            ("numbers", "1,hunter2", "numbers.1: a whole number that is not negative is wanted here"),
            ("inner", "hunter2", "inner.0: a table of settings is wanted here"),
            ("inner", "[{nmae = 'hunter2'}]", "inner.0.nmae: there is no such setting; those here are name"),
            ("inner", "[{}]", "inner.0.name: is missing"),
            ("texts", "[hunter2]", "texts: is no TOML: "),
            ("listen", "hunter2", "listen: "),
        ] {
            let error = read(&[(key, text)]).unwrap_err();
            assert!(error.starts_with(fault), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn toml_keeps_its_types() {
        let of = |toml: &str| {
            Fields::deserialize(Value::from(toml.parse::<toml::Table>().unwrap())).map_err(|e| e.to_string())
        };
        assert_eq!(of("text = 2026").unwrap_err(), "text: a text is wanted here");
        assert_eq!(of("number = '5'").unwrap_err(), "number: a whole number up to 65535 is wanted here");
        assert_eq!(of("number = 70000").unwrap_err(), "number: a whole number up to 65535 is wanted here");
        assert_eq!(of("inner = 'x'").unwrap_err(), "inner: a list is wanted here");
        assert_eq!(of("numbers = [1, 2]\nkind = 'one'\nwait = '2s'\nshare = 2").unwrap().numbers, [1, 2]);
    }
}
