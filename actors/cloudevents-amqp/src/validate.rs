//! The rules of CloudEvents 1.0 that the SDK does not check. Applied before an event is written and after one is read;
//! what only AMQP forbids (lengths, content types that would be misread) is checked where the message is written.

use chrono::{DateTime, Datelike, Utc};
use cloudevents::event::{ExtensionValue, SpecVersion};
use cloudevents::{AttributesReader, Event};

use crate::error::{Invalid, Problem};
use crate::uri;

/// Checks an event's attributes and extensions against CloudEvents 1.0; the data is not looked at.
///
/// `id`, `type` and `source` are not empty; `subject` and `datacontenttype` are not, if present; `source` and `dataschema` are
/// URI-references; `time` has a year of four digits; text holds no control characters and no noncharacters; an extension's name
/// is made of `a-z` and `0-9` (of any length: 20 characters are only recommended) and is no attribute's; integers fit 32 bits.
///
/// # Errors
/// [`Invalid::SpecVersion`] for any version but 1.0, else [`Invalid::Attribute`] for the first attribute that is wrong.
///
/// Source: CloudEvents 1.0.2, "Context Attributes" and "Type System".
///
/// # Examples
/// The SDK's builder takes what the specification forbids:
/// ```
/// use cloudevents::{EventBuilder, EventBuilderV10};
/// use cloudevents_amqp::{Invalid, Problem, validate};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = EventBuilderV10::new().id("1").source("/shop").ty("com.example.ping");
/// assert_eq!(validate(&builder.clone().build()?), Ok(()));
///
/// let event = builder.extension("Retry-Count", 3).build()?;
/// let expected = Invalid::Attribute { name: "Retry-Count".to_owned(), problem: Problem::ExtensionName };
/// assert_eq!(validate(&event), Err(expected));
/// # Ok(())
/// # }
/// ```
pub fn validate(event: &Event) -> Result<(), Invalid> {
    if event.specversion() != SpecVersion::V10 {
        return Err(Invalid::SpecVersion(event.specversion().to_string()));
    }
    filled_text("id", event.id())?;
    filled_text("type", event.ty())?;
    if event.source().is_empty() {
        return Err(Invalid::attribute("source", Problem::Empty));
    }
    reference("source", event.source())?;
    if let Some(subject) = event.subject() {
        filled_text("subject", subject)?;
    }
    if let Some(content_type) = event.datacontenttype() {
        filled_text("datacontenttype", content_type)?;
    }
    if let Some(schema) = event.dataschema() {
        reference("dataschema", schema.as_str())?;
    }
    if let Some(time) = event.time() {
        year(time)?;
    }
    for (name, value) in event.iter_extensions() {
        extension_name(name)?;
        match value {
            ExtensionValue::String(value) => text(name, value)?,
            ExtensionValue::Integer(value) => {
                integer(name, *value)?;
            }
            ExtensionValue::Boolean(_) => {}
        }
    }
    Ok(())
}

/// Gives an integer back as the 32 bits it must fit in.
pub(crate) fn integer(name: &str, value: i64) -> Result<i32, Invalid> {
    i32::try_from(value).map_err(|_| Invalid::attribute(name, Problem::Integer))
}

/// Checks that text is a URI-reference.
pub(crate) fn reference(name: &str, value: &str) -> Result<(), Invalid> {
    if uri::is_reference(value) { Ok(()) } else { Err(Invalid::attribute(name, Problem::UriReference)) }
}

fn filled_text(name: &str, value: &str) -> Result<(), Invalid> {
    if value.is_empty() {
        return Err(Invalid::attribute(name, Problem::Empty));
    }
    text(name, value)
}

fn text(name: &str, value: &str) -> Result<(), Invalid> {
    if value.chars().any(is_forbidden) { Err(Invalid::attribute(name, Problem::Character)) } else { Ok(()) }
}

/// Control characters (U+0000 to U+001F, U+007F to U+009F) and Unicode's 66 noncharacters.
fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{FDD0}'..='\u{FDEF}') || u32::from(c) & 0xFFFE == 0xFFFE
}

fn year(time: &DateTime<Utc>) -> Result<(), Invalid> {
    if (0..=9999).contains(&time.year()) { Ok(()) } else { Err(Invalid::attribute("time", Problem::Year)) }
}

fn extension_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(Invalid::attribute(name, Problem::ExtensionName));
    }
    if name == "data" || SpecVersion::V10.attribute_names().contains(&name) {
        return Err(Invalid::attribute(name, Problem::Reserved));
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use cloudevents::{AttributesWriter, EventBuilder, EventBuilderV03, EventBuilderV10};
    use url::Url;

    use super::*;

    fn event() -> Event {
        EventBuilderV10::new().id("1").source("/orrery").ty("com.example.x").build().unwrap()
    }

    fn problem_of(event: &Event) -> Option<(String, Problem)> {
        match validate(event) {
            Ok(()) => None,
            Err(Invalid::Attribute { name, problem }) => Some((name, problem)),
            Err(other) => panic!("{other}"),
        }
    }

    fn with(change: impl FnOnce(&mut Event)) -> Option<(String, Problem)> {
        let mut event = event();
        change(&mut event);
        problem_of(&event)
    }

    fn wrong(name: &str, problem: Problem) -> Option<(String, Problem)> {
        Some((name.to_owned(), problem))
    }

    #[test]
    fn a_minimal_event_is_valid() {
        assert_eq!(problem_of(&event()), None);
    }

    #[test]
    fn another_version_is_refused_by_its_name() {
        let old = EventBuilderV03::new().id("1").source("/orrery").ty("x").build().unwrap();
        assert_eq!(validate(&old), Err(Invalid::SpecVersion("0.3".to_owned())));
    }

    #[test]
    fn required_attributes_must_not_be_empty() {
        assert_eq!(with(|event| drop(event.set_id(""))), wrong("id", Problem::Empty));
        assert_eq!(with(|event| drop(event.set_type(""))), wrong("type", Problem::Empty));
        assert_eq!(with(|event| drop(event.set_source(""))), wrong("source", Problem::Empty));
    }

    #[test]
    fn optional_attributes_must_not_be_empty_when_present() {
        assert_eq!(with(|event| drop(event.set_subject(Some("")))), wrong("subject", Problem::Empty));
        assert_eq!(
            with(|event| drop(event.set_datacontenttype(Some("")))),
            wrong("datacontenttype", Problem::Empty)
        );
    }

    #[test]
    fn source_and_dataschema_must_be_uri_references() {
        assert_eq!(with(|event| drop(event.set_source("a b"))), wrong("source", Problem::UriReference));
        // The url crate keeps braces in a query, RFC 3986 does not know them.
        let schema = Url::parse("https://example.com/?q={x}").unwrap();
        assert_eq!(
            with(|event| drop(event.set_dataschema(Some(schema)))),
            wrong("dataschema", Problem::UriReference)
        );
    }

    #[test]
    fn control_characters_and_noncharacters_are_refused() {
        for bad in ["a\nb", "\0", "\u{7f}", "\u{85}", "\u{fdd0}", "\u{fffe}", "\u{1ffff}", "\u{10fffe}"] {
            assert_eq!(with(|event| drop(event.set_id(bad))), wrong("id", Problem::Character), "{bad:?}");
            assert_eq!(
                with(|event| drop(event.set_subject(Some(bad)))),
                wrong("subject", Problem::Character)
            );
            assert_eq!(with(|event| event.set_extension("x", bad)), wrong("x", Problem::Character));
        }
        assert_eq!(with(|event| drop(event.set_id("é 日本 🦀 \u{a0}"))), None);
    }

    #[test]
    fn years_need_four_digits() {
        for (year, valid) in [(0, true), (9999, true), (-1, false), (10_000, false)] {
            let date = chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            let time = date.and_hms_opt(0, 0, 0).unwrap().and_utc();
            let problem = with(|event| {
                event.set_time(Some(time));
            });
            assert_eq!(problem, if valid { None } else { wrong("time", Problem::Year) }, "{year}");
        }
    }

    #[test]
    fn extension_names_are_lower_case_letters_and_digits() {
        for bad in ["", "Upper", "with space", "under_score", "data_base64", "dash-ed", "é"] {
            assert!(
                matches!(with(|event| event.set_extension(bad, true)), Some((_, Problem::ExtensionName))),
                "{bad}"
            );
        }
        let long = "x".repeat(100);
        for good in ["traceparent", "a", "0", "expirytime", long.as_str()] {
            assert_eq!(with(|event| event.set_extension(good, true)), None, "{good}");
        }
    }

    #[test]
    fn extensions_cannot_take_an_attributes_name() {
        for name in SpecVersion::V10.attribute_names().iter().chain(&["data"]) {
            assert_eq!(with(|event| event.set_extension(name, "x")), wrong(name, Problem::Reserved));
        }
    }

    #[test]
    fn integers_fit_32_bits() {
        for good in [i64::from(i32::MIN), 0, i64::from(i32::MAX)] {
            assert_eq!(with(|event| event.set_extension("n", good)), None);
        }
        for bad in [i64::MIN, i64::from(i32::MIN) - 1, i64::from(i32::MAX) + 1, i64::MAX] {
            assert_eq!(with(|event| event.set_extension("n", bad)), wrong("n", Problem::Integer));
        }
    }
}
