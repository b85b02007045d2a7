//! The fields of an account as people send them: read from a JSON object, every fault of which is told by field.

use email_address::{EmailAddress, Options};
use orrery_actors::web::problem::{FieldError, Problem};
use orrery_schemas::problems::Code;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::password;

/// Reads fields and gathers their faults.
pub struct Reader {
    object: Map<String, Value>,
    faults: Vec<FieldError>,
}

/// A vanity name: the look-up key, and as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanity {
    /// Lower-cased.
    pub key: String,
    /// With its case.
    pub display: String,
}

impl Reader {
    /// A reader of `object`.
    pub fn new(object: Map<String, Value>) -> Self {
        Self { object, faults: Vec::new() }
    }

    /// Tells what is wrong with a field.
    pub fn fault(&mut self, field: &str, code: &str, message: impl Into<String>) {
        self.faults.push(FieldError {
            field: field.to_owned(),
            message: message.into(),
            code: code.to_owned(),
        });
    }

    /// A text; null counts as absent.
    pub fn optional(&mut self, field: &str) -> Option<String> {
        match self.object.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.fault(field, "wrong_type", format!("'{field}' must be a text"));
                None
            }
        }
    }

    /// A text that must be there.
    pub fn required(&mut self, field: &str) -> Option<String> {
        let faults = self.faults.len();
        let text = self.optional(field);
        if text.is_none() && self.faults.len() == faults {
            self.fault(field, "missing", format!("'{field}' is missing"));
        }
        text
    }

    /// The name.
    pub fn vanity(&mut self, field: &str) -> Option<Vanity> {
        let text = self.required(field)?;
        let vanity = Vanity::parse(&text);
        if vanity.is_none() {
            self.fault(
                field,
                "invalid_id",
                format!("'{field}' must be 2 to 64 letters (A-Z, a-z), digits or underscores"),
            );
        }
        vanity
    }

    /// The address: NFC and lower case.
    pub fn email(&mut self, field: &str) -> Option<String> {
        let text = self.required(field)?;
        let email = normalise_email(&text);
        if email.is_none() {
            self.fault(
                field,
                "invalid_email",
                format!("'{field}' must be an e-mail address, such as name@example.org"),
            );
        }
        email
    }

    /// A password within the bounds that sign-up and login share.
    pub fn password(&mut self, field: &str) -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(self.required(field)?);
        if password::LENGTH.contains(&text.chars().count()) {
            return Some(text);
        }
        let (least, most) = (password::LENGTH.start(), password::LENGTH.end());
        self.fault(field, "invalid_length", format!("'{field}' must have {least} to {most} characters"));
        None
    }

    /// A language tag; English where none is given.
    pub fn locale(&mut self, field: &str) -> Option<String> {
        let Some(text) = self.optional(field) else { return Some("en".to_owned()) };
        if is_language_tag(&text) {
            return Some(text);
        }
        self.fault(
            field,
            "invalid_locale",
            format!("'{field}' must be a language tag (BCP 47), such as en or fr-CA"),
        );
        None
    }

    /// Nothing, or everything that was wrong.
    ///
    /// # Errors
    /// 422 with a line per field.
    pub fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let detail = self.faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ");
        Err(Problem::new(Code::InvalidField, detail).with_errors(self.faults))
    }
}

impl Vanity {
    /// The name, if it may be one.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (2..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        valid.then(|| Self { key: text.to_ascii_lowercase(), display: text.to_owned() })
    }
}

/// The address as it is hashed and kept, if it is one.
pub fn normalise_email(text: &str) -> Option<String> {
    if text.len() > 254 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let email = text.nfc().collect::<String>().to_lowercase();
    let options = Options::default().without_display_text().without_domain_literal().with_required_tld();
    EmailAddress::parse_with_options(&email, options).ok()?;
    Some(email)
}

/// Whether the text has the shape of a language tag (RFC 5646): a language of two or three letters, then subtags.
fn is_language_tag(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    text.len() <= 35
        && (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_to_sixty_four_of_the_allowed() {
        for good in ["ab", "A_1", &"x".repeat(64)] {
            assert!(Vanity::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a", "a b", "é_", "a-b", "../x", &"x".repeat(65), "a\0"] {
            assert!(Vanity::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Vanity::parse("BoB").unwrap().key, "bob");
    }

    #[test]
    fn addresses_are_normalised_and_hostile_ones_refused() {
        // e and a combining accent become one letter.
        assert_eq!(normalise_email("Jose\u{301}@Example.ORG").unwrap(), "jos\u{e9}@example.org");
        let long = format!("{}@example.org", "a".repeat(250));
        for bad in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.d",
            "a@b.c\r\nBcc: x@y.z",
            "A <a@b.c>",
            "a@[127.0.0.1]",
            &long,
        ] {
            assert!(normalise_email(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn every_fault_is_told_by_its_field() {
        let object = serde_json::json!({"id": 5, "email": "x", "password": "short", "locale": "e"});
        let mut reader = Reader::new(object.as_object().unwrap().clone());
        reader.vanity("id");
        reader.email("email");
        reader.password("password");
        reader.locale("locale");
        let faults: Vec<_> = reader.faults.iter().map(|f| (f.field.as_str(), f.code.as_str())).collect();
        assert_eq!(
            faults,
            [
                ("id", "wrong_type"),
                ("email", "invalid_email"),
                ("password", "invalid_length"),
                ("locale", "invalid_locale")
            ]
        );
    }
}
