//! The fields of an account as people send them: read from a JSON object, every fault of which is told by field.

use orrery_schemas::{address::Address, problems::Code};
use orrery_web::problem::{FieldError, Problem};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::{
    account::{reserved, update::language_tag, vanity::Vanity},
    password::Password,
};

/// Reads fields and gathers their faults.
pub struct Reader {
    object: Map<String, Value>,
    faults: Vec<FieldError>,
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

    /// A new name, which is none of the reserved ones.
    pub fn vanity(&mut self, field: &str, reserved: &[String]) -> Option<Vanity> {
        let text = self.required(field)?;
        let Some(vanity) = Vanity::parse(&text) else {
            let message = format!("'{field}' must be 2 to 64 letters (A-Z, a-z), digits or underscores");
            self.fault(field, "invalid_id", message);
            return None;
        };
        if reserved::is_reserved(&vanity.key, reserved) {
            let message =
                format!("this {field} is reserved, or could be taken for one that is; choose another");
            self.fault(field, "reserved", message);
        }
        Some(vanity)
    }

    /// An address that mail can be sent to.
    pub fn email(&mut self, field: &str, international: bool) -> Option<Address> {
        let text = self.required(field)?;
        match Address::parse(&text, international) {
            Ok(address) => Some(address),
            Err(fault) => {
                self.fault(field, "invalid_email", format!("'{field}' {fault}"));
                None
            }
        }
    }

    /// A password, prepared, within the bounds that sign-up and login share.
    pub fn password(&mut self, field: &str) -> Option<Password> {
        let text = Zeroizing::new(self.required(field)?);
        match Password::prepare(&text) {
            Ok(password) => Some(password),
            Err(fault) => {
                self.fault(field, fault.code(), format!("'{field}' {fault}"));
                None
            }
        }
    }

    /// Whether the field is there at all; null counts as absent.
    pub fn has(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(|value| !value.is_null())
    }

    /// The field whatever its type is; null counts as absent.
    pub fn any(&mut self, field: &str) -> Option<Value> {
        self.object.remove(field).filter(|value| !value.is_null())
    }

    /// A text of at most `longest` characters without control characters, but for line ends where `lines` are allowed.
    pub fn text(&mut self, field: &str, longest: usize, lines: bool) -> Option<String> {
        let text: String = self.optional(field)?.nfc().collect();
        if text.chars().count() > longest {
            self.fault(field, "invalid_length", format!("'{field}' must have at most {longest} characters"));
            return None;
        }
        if text.chars().any(|c| c.is_control() && !(lines && c == '\n')) {
            self.fault(field, "invalid_character", format!("'{field}' must have no control characters"));
            return None;
        }
        Some(text)
    }

    /// A language tag; English where none is given.
    pub fn locale(&mut self, field: &str) -> Option<String> {
        let Some(text) = self.optional(field) else { return Some("en".to_owned()) };
        if let Some(tag) = language_tag(&text) {
            return Some(tag);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_by_its_field() {
        let object = serde_json::json!({"id": 5, "email": "x", "password": "short", "locale": "e"});
        let mut reader = Reader::new(object.as_object().unwrap().clone());
        reader.vanity("id", &[]);
        reader.email("email", false);
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
