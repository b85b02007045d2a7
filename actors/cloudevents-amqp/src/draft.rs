//! An event's attributes while they are gathered from headers or JSON, and their way to a checked event. Data is not handled here.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use chrono::{DateTime, SecondsFormat, Utc};
use cloudevents::{AttributesWriter, Event, EventBuilder, EventBuilderV10, event::ExtensionValue};
use url::Url;

use crate::{
    error::{Invalid, Problem, shown},
    validate::{reference, validate},
};

/// A value as a peer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<'a> {
    /// Text, the canonical form of every type.
    Text(Cow<'a, str>),
    /// A boolean.
    Boolean(bool),
    /// An integer whose range is not checked yet.
    Integer(i64),
    /// A native timestamp.
    Time(DateTime<Utc>),
}

impl Given<'_> {
    pub(crate) fn into_owned(self) -> Given<'static> {
        match self {
            Self::Text(text) => Given::Text(Cow::Owned(text.into_owned())),
            Self::Boolean(value) => Given::Boolean(value),
            Self::Integer(value) => Given::Integer(value),
            Self::Time(time) => Given::Time(time),
        }
    }
}

/// The attributes and extensions gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Draft<'a> {
    specversion: Option<Given<'a>>,
    id: Option<Given<'a>>,
    source: Option<Given<'a>>,
    ty: Option<Given<'a>>,
    subject: Option<Given<'a>>,
    datacontenttype: Option<Given<'a>>,
    dataschema: Option<Given<'a>>,
    time: Option<Given<'a>>,
    extensions: BTreeMap<Cow<'a, str>, Given<'a>>,
}

impl<'a> Draft<'a> {
    /// Adds a value. The same one twice is no harm (a message that crossed two bridges); two different ones are, since the next
    /// reader may pick the other.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'a, str>>, given: Given<'a>) -> Result<(), Invalid> {
        let name = name.into();
        let before = match self.attribute(&name) {
            Some(Some(before)) => before,
            Some(attribute) => {
                *attribute = Some(given);
                return Ok(());
            }
            None => match self.extensions.entry(name.clone()) {
                Entry::Occupied(before) => before.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(given);
                    return Ok(());
                }
            },
        };
        if *before == given { Ok(()) } else { Err(Invalid::attribute(&name, Problem::Conflict)) }
    }

    /// The place of an attribute of CloudEvents itself.
    fn attribute(&mut self, name: &str) -> Option<&mut Option<Given<'a>>> {
        Some(match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            "subject" => &mut self.subject,
            "datacontenttype" => &mut self.datacontenttype,
            "dataschema" => &mut self.dataschema,
            "time" => &mut self.time,
            _ => return None,
        })
    }

    /// Makes the event, without data. The version is looked at first: attributes of another version are not ours to judge.
    pub(crate) fn finish(self) -> Result<Event, Invalid> {
        let version = required("specversion", self.specversion)?;
        if version != "1.0" {
            return Err(Invalid::SpecVersion(shown(&version)));
        }
        let mut event = EventBuilderV10::new()
            .id(required("id", self.id)?)
            .source(required("source", self.source)?)
            .ty(required("type", self.ty)?)
            .build()
            // All three are set, so the builder can only mind an empty source.
            .map_err(|_| Invalid::attribute("source", Problem::Empty))?;
        event.set_subject(optional("subject", self.subject)?);
        event.set_datacontenttype(optional("datacontenttype", self.datacontenttype)?);
        event.set_dataschema(schema(self.dataschema)?);
        event.set_time(time(self.time)?);
        for (name, given) in self.extensions {
            event.set_extension(
                &name,
                match given {
                    Given::Text(text) => ExtensionValue::String(text.into_owned()),
                    Given::Boolean(value) => ExtensionValue::Boolean(value),
                    Given::Integer(value) => ExtensionValue::Integer(value),
                    // The SDK's extensions know no timestamp: keep the canonical string.
                    Given::Time(time) => ExtensionValue::String(rfc3339(&time)),
                },
            );
        }
        validate(&event)?;
        Ok(event)
    }
}

fn required<'a>(name: &str, given: Option<Given<'a>>) -> Result<Cow<'a, str>, Invalid> {
    optional(name, given)?.ok_or_else(|| Invalid::attribute(name, Problem::Missing))
}

fn optional<'a>(name: &str, given: Option<Given<'a>>) -> Result<Option<Cow<'a, str>>, Invalid> {
    match given {
        None => Ok(None),
        Some(Given::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::attribute(name, Problem::Type)),
    }
}

fn schema(given: Option<Given<'_>>) -> Result<Option<Url>, Invalid> {
    let Some(text) = optional("dataschema", given)? else { return Ok(None) };
    if text.is_empty() {
        return Err(Invalid::attribute("dataschema", Problem::Empty));
    }
    // Before the url crate trims and repairs it.
    reference("dataschema", &text)?;
    Url::parse(&text).map(Some).map_err(|_| Invalid::attribute("dataschema", Problem::Uri))
}

fn time(given: Option<Given<'_>>) -> Result<Option<DateTime<Utc>>, Invalid> {
    match given {
        None => Ok(None),
        Some(Given::Time(time)) => Ok(Some(time)),
        Some(Given::Text(text)) => DateTime::parse_from_rfc3339(&text)
            .map(|time| Some(time.to_utc()))
            .map_err(|_| Invalid::attribute("time", Problem::Time)),
        Some(_) => Err(Invalid::attribute("time", Problem::Type)),
    }
}

/// A time as RFC 3339 text in UTC, with as many of its nine decimals as it has.
pub(crate) fn rfc3339(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {

    use cloudevents::AttributesReader;

    use super::*;

    fn text(text: &str) -> Given<'_> {
        Given::Text(text.into())
    }

    fn draft<'a>(more: &[(&'a str, Given<'a>)]) -> Draft<'a> {
        let mut draft = Draft::default();
        for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/x"), ("type", "t")] {
            draft.set(name, text(value)).unwrap();
        }
        for (name, given) in more {
            if let Some(attribute) = draft.attribute(name) {
                *attribute = None;
            }
            draft.set(*name, given.clone()).unwrap();
        }
        draft
    }

    fn refused<'a>(name: &'a str, given: Given<'a>) -> Problem {
        match draft(&[(name, given)]).finish() {
            Err(Invalid::Attribute { name: named, problem }) => {
                assert_eq!(named, name);
                problem
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn required_attributes_must_be_there() {
        for name in ["specversion", "id", "source", "type"] {
            let mut draft = draft(&[]);
            *draft.attribute(name).unwrap() = None;
            assert_eq!(draft.finish(), Err(Invalid::attribute(name, Problem::Missing)));
        }
    }

    #[test]
    fn only_version_1_0_is_read_and_another_is_named() {
        for version in ["0.3", "1.1", "1", "", "1.0 "] {
            let result = draft(&[("specversion", text(version))]).finish();
            assert_eq!(result, Err(Invalid::SpecVersion(shown(version))));
        }
        // An old event is refused for its version, whatever else is wrong with it.
        let mut old = Draft::default();
        old.set("specversion", text("0.3")).unwrap();
        assert_eq!(old.finish(), Err(Invalid::SpecVersion("0.3".to_owned())));
    }

    #[test]
    fn empty_attributes_are_refused() {
        for name in ["id", "source", "type", "subject", "datacontenttype", "dataschema"] {
            assert_eq!(refused(name, text("")), Problem::Empty, "{name}");
        }
    }

    #[test]
    fn attributes_that_are_text_take_no_other_type() {
        for name in ["specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema"] {
            assert_eq!(refused(name, Given::Integer(1)), Problem::Type, "{name}");
            assert_eq!(refused(name, Given::Boolean(true)), Problem::Type, "{name}");
        }
        assert_eq!(refused("time", Given::Integer(1)), Problem::Type);
    }

    #[test]
    fn dataschema_must_be_an_absolute_uri() {
        assert_eq!(refused("dataschema", text("/relative")), Problem::Uri);
        assert_eq!(refused("dataschema", text("https://a b/")), Problem::UriReference);
        assert_eq!(refused("dataschema", text(" https://a/")), Problem::UriReference);
    }

    #[test]
    fn time_keeps_its_nanoseconds_and_turns_to_utc() {
        let event = draft(&[("time", text("2018-04-05T19:56:24.123456789+02:00"))]).finish().unwrap();
        assert_eq!(rfc3339(event.time().unwrap()), "2018-04-05T17:56:24.123456789Z");
        for bad in ["", "yesterday", "2018-04-05", "2018-04-05T17:56:24", "1522900584"] {
            assert_eq!(refused("time", text(bad)), Problem::Time, "{bad}");
        }
        // A year that only its offset pushes out of range.
        assert_eq!(refused("time", text("9999-12-31T23:59:59-01:00")), Problem::Year);
    }

    #[test]
    fn a_native_timestamp_is_a_time_and_as_an_extension_text() {
        let at = DateTime::from_timestamp(1_522_900_584, 0).unwrap();
        let event = draft(&[("time", Given::Time(at)), ("expirytime", Given::Time(at))]).finish().unwrap();
        assert_eq!(event.time(), Some(&at));
        assert_eq!(event.extension("expirytime"), Some(&ExtensionValue::from("2018-04-05T03:56:24Z")));
    }

    #[test]
    fn a_value_may_come_twice_but_not_two_values() {
        let mut draft = draft(&[]);
        assert_eq!(draft.set("id", text("1")), Ok(()));
        assert_eq!(draft.set("id", text("2")), Err(Invalid::attribute("id", Problem::Conflict)));
    }

    #[test]
    fn the_rules_of_validate_apply() {
        assert_eq!(refused("data", text("x")), Problem::Reserved);
        assert_eq!(refused("Id", text("x")), Problem::ExtensionName);
        assert_eq!(refused("n", Given::Integer(1 << 31)), Problem::Integer);
    }
}
