//! Passwords as they are hashed: prepared by RFC 8265 (OpaqueString), so that two keyboards that write one letter differently write one password.

use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use zeroize::Zeroizing;

use super::LENGTH;

/// What is read at most before it is prepared, in bytes: 128 characters, each of them decomposed.
const LONGEST_BYTES: usize = 4096;

/// A prepared password.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// Why a text is no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// Too short or too long.
    #[error("must have {} to {} characters", LENGTH.start(), LENGTH.end())]
    Length,
    /// Control characters, or what Unicode has not assigned.
    #[error("must have no control characters")]
    Character,
}

impl PasswordFault {
    /// The code of a faulty field.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Length => "invalid_length",
            Self::Character => "invalid_character",
        }
    }
}

impl Password {
    /// Prepares a password: spaces of any kind become plain ones, NFC; its length is counted afterwards.
    ///
    /// # Errors
    /// Why it is none.
    pub fn prepare(text: &str) -> Result<Self, PasswordFault> {
        if text.is_empty() || text.len() > LONGEST_BYTES {
            return Err(PasswordFault::Length);
        }
        let prepared = OpaqueString::enforce(text).map_err(|_| PasswordFault::Character)?;
        let prepared = Zeroizing::new(prepared.into_owned());
        if LENGTH.contains(&prepared.chars().count()) {
            Ok(Self(prepared))
        } else {
            Err(PasswordFault::Length)
        }
    }

    /// What is hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The prepared text.
    pub fn as_text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn prepared(text: &str) -> Result<String, PasswordFault> {
        Password::prepare(text).map(|password| password.as_text().to_owned())
    }

    #[test]
    fn one_password_typed_in_two_ways_is_one() {
        let text = "Z\u{fc}rich-Stra\u{df}e-\u{e9}-47!";
        assert_eq!(prepared(text), prepared(&text.nfd().collect::<String>()));
        assert_eq!(prepared("correct\u{a0}horse"), prepared("correct horse"));
    }

    #[test]
    fn the_length_is_counted_after_preparation() {
        // 128 letters, 256 code points when they are decomposed.
        let text = "\u{e9}".repeat(128);
        assert!(prepared(&text.nfd().collect::<String>()).is_ok());
        assert_eq!(prepared(&"\u{e9}".repeat(129)), Err(PasswordFault::Length));
        assert_eq!(prepared("1234567"), Err(PasswordFault::Length));
        assert_eq!(prepared(&"x".repeat(100_000)), Err(PasswordFault::Length));
    }

    #[test]
    fn control_characters_are_no_password() {
        for text in ["with a \0 NUL", "with a\ttab", "new\nline!"] {
            assert_eq!(prepared(text), Err(PasswordFault::Character), "{text:?}");
        }
    }
}
