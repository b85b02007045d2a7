//! An event's attributes while they are gathered from headers or JSON, and their way to a checked event. Data is not handled here.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use cloudevents::{AttributesWriter, Event, EventBuilder, EventBuilderV10, event::ExtensionValue};
use url::Url;

use crate::{
    error::{Invalid, Problem, shown},
    validate::{reference, validate},
};

/// A value as a peer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Text, the canonical form of every type.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// An integer whose range is not checked yet.
    Integer(i64),
    /// A native timestamp.
    Time(DateTime<Utc>),
}

/// The attributes and extensions gathered so far, by name.
#[derive(Debug, Default)]
pub(crate) struct Draft(BTreeMap<String, Given>);

impl Draft {
    /// Adds a value. The same one twice is no harm (a message that crossed two bridges); two different ones are, since the next
    /// reader may pick the other.
    pub(crate) fn set(&mut self, name: &str, given: Given) -> Result<(), Invalid> {
        match self.0.get(name) {
            Some(before) if *before == given => Ok(()),
            Some(_) => Err(Invalid::attribute(name, Problem::Conflict)),
            None => {
                self.0.insert(name.to_owned(), given);
                Ok(())
            }
        }
    }

    /// Makes the event, without data. The version is looked at first: attributes of another version are not ours to judge.
    pub(crate) fn finish(mut self) -> Result<Event, Invalid> {
        let version = self.required("specversion")?;
        if version != "1.0" {
            return Err(Invalid::SpecVersion(shown(&version)));
        }
        let mut event = EventBuilderV10::new()
            .id(self.required("id")?)
            .source(self.required("source")?)
            .ty(self.required("type")?)
            .build()
            // All three are set, so the builder can only mind an empty source.
            .map_err(|_| Invalid::attribute("source", Problem::Empty))?;
        event.set_subject(self.optional("subject")?);
        event.set_datacontenttype(self.optional("datacontenttype")?);
        event.set_dataschema(self.schema()?);
        event.set_time(self.time()?);
        for (name, given) in self.0 {
            event.set_extension(
                &name,
                match given {
                    Given::Text(text) => ExtensionValue::String(text),
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

    fn required(&mut self, name: &str) -> Result<String, Invalid> {
        self.optional(name)?.ok_or_else(|| Invalid::attribute(name, Problem::Missing))
    }

    fn optional(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Given::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Invalid::attribute(name, Problem::Type)),
        }
    }

    fn schema(&mut self) -> Result<Option<Url>, Invalid> {
        let Some(text) = self.optional("dataschema")? else { return Ok(None) };
        if text.is_empty() {
            return Err(Invalid::attribute("dataschema", Problem::Empty));
        }
        // Before the url crate trims and repairs it.
        reference("dataschema", &text)?;
        Url::parse(&text).map(Some).map_err(|_| Invalid::attribute("dataschema", Problem::Uri))
    }

    fn time(&mut self) -> Result<Option<DateTime<Utc>>, Invalid> {
        match self.0.remove("time") {
            None => Ok(None),
            Some(Given::Time(time)) => Ok(Some(time)),
            Some(Given::Text(text)) => DateTime::parse_from_rfc3339(&text)
                .map(|time| Some(time.to_utc()))
                .map_err(|_| Invalid::attribute("time", Problem::Time)),
            Some(_) => Err(Invalid::attribute("time", Problem::Type)),
        }
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

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    fn draft(more: &[(&str, Given)]) -> Draft {
        let mut draft = Draft::default();
        for (name, value) in [("specversion", "1.0"), ("id", "1"), ("source", "/x"), ("type", "t")] {
            draft.set(name, text(value)).unwrap();
        }
        for (name, given) in more {
            draft.0.insert((*name).to_owned(), given.clone());
        }
        draft
    }

    fn refused(name: &str, given: Given) -> Problem {
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
            draft.0.remove(name);
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
