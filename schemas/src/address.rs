//! Which e-mail addresses there are for us: what sign-up takes is what maily can send to, decided here and nowhere else.
//! How an address is sealed or looked up lives in autha, how it is put on an envelope in maily.

use unicode_normalization::UnicodeNormalization;

/// Longest address (RFC 5321, 4.5.3.1.3: a path has 256 octets, two of them are brackets) and longest part before the `@`.
const LONGEST: usize = 254;
const LONGEST_LOCAL: usize = 64;

/// An address that mail can be sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    typed: String,
    delivery: String,
    normal: String,
}

/// Why a text is no address for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Not of the form `name@domain`.
    #[error("must be an e-mail address, such as name@example.org")]
    Syntax,
    /// Longer than mail servers take.
    #[error("must have at most 254 characters, at most 64 of them before the @")]
    TooLong,
    /// `"john smith"@example.org`.
    #[error("must not have quotes or comments before the @")]
    Quoted,
    /// Letters outside ASCII before the `@`, and our mail server is not said to know SMTPUTF8 (RFC 6531).
    #[error("must have only ASCII characters before the @; this instance's mail server takes no others")]
    International,
    /// The part after the `@` is no domain name (IDNA, UTS 46).
    #[error("must have a valid domain name after the @, such as example.org")]
    Domain,
}

impl Address {
    /// The address, if mail can be sent to it. `international` says that the mail server knows SMTPUTF8.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, international: bool) -> Result<Self, AddressFault> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressFault::Syntax)?;
        if text.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) || domain.contains(' ') {
            return Err(AddressFault::Syntax);
        }
        if local.contains(['"', '(', ')', '\\']) {
            return Err(AddressFault::Quoted);
        }
        let local: String = local.nfc().collect();
        let atom = |part: &str| !part.is_empty() && part.chars().all(is_atext);
        if !local.split('.').all(atom) {
            return Err(AddressFault::Syntax);
        }
        if !international && !local.is_ascii() {
            return Err(AddressFault::International);
        }
        let domain = domain_of(domain)?;
        let delivery = format!("{local}@{domain}");
        if local.len() > LONGEST_LOCAL || delivery.len() > LONGEST {
            return Err(AddressFault::TooLong);
        }
        let normal = format!("{}@{domain}", local.to_lowercase().nfc().collect::<String>());
        Ok(Self { typed: text.to_owned(), delivery, normal })
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// What mail is sent to: the name as typed (NFC), the domain in ASCII.
    pub fn delivery(&self) -> &str {
        &self.delivery
    }

    /// What is looked up: two spellings of one mailbox have the same normal form.
    pub fn normal(&self) -> &str {
        &self.normal
    }
}

/// RFC 5322 `atext`, and every letter beyond ASCII (RFC 6532).
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

/// The domain in ASCII and lower case, if it is a host name of at least two labels.
fn domain_of(text: &str) -> Result<String, AddressFault> {
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| AddressFault::Domain)?;
    let last = ascii.rsplit('.').next().unwrap_or_default();
    let is_name = ascii.contains('.')
        && ascii.len() <= 253
        && !last.is_empty()
        && !last.bytes().all(|byte| byte.is_ascii_digit());
    if is_name { Ok(ascii) } else { Err(AddressFault::Domain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Result<String, AddressFault> {
        Address::parse(text, false).map(|address| address.normal)
    }

    #[test]
    fn two_spellings_of_a_mailbox_have_one_normal_form() {
        assert_eq!(normal("U@b\u{fc}cher.example"), normal("u@xn--bcher-kva.example"));
        assert_eq!(normal("U@BU\u{308}CHER.example"), normal("u@xn--bcher-kva.EXAMPLE"));
        let typed = Address::parse("Jose\u{301}@Example.ORG", true).map(|a| (a.delivery, a.normal));
        assert_eq!(typed, Ok(("Jos\u{e9}@example.org".to_owned(), "jos\u{e9}@example.org".to_owned())));
    }

    #[test]
    fn what_cannot_be_mailed_is_refused_with_the_reason() {
        for (text, fault) in [
            ("", AddressFault::Syntax),
            ("a", AddressFault::Syntax),
            ("@b.c", AddressFault::Syntax),
            ("a b@c.d", AddressFault::Syntax),
            ("a..b@c.d", AddressFault::Syntax),
            (".a@c.d", AddressFault::Syntax),
            ("A <a@b.c>", AddressFault::Syntax),
            ("a@b.c\r\nBcc: x@y.z", AddressFault::Syntax),
            ("a@b@c.d", AddressFault::Syntax),
            ("\"john..x\"@example.org", AddressFault::Quoted),
            ("j\u{fc}rgen@example.org", AddressFault::International),
            ("a@", AddressFault::Domain),
            ("a@b", AddressFault::Domain),
            ("a@b.c.", AddressFault::Domain),
            ("a@-b.c", AddressFault::Domain),
            ("a@[127.0.0.1]", AddressFault::Domain),
            ("a@127.0.0.1", AddressFault::Domain),
        ] {
            assert_eq!(normal(text), Err(fault), "{text:?}");
        }
        assert_eq!(normal(&format!("{}@example.org", "a".repeat(65))), Err(AddressFault::TooLong));
        let long = format!("a@{}.example", vec!["x".repeat(60); 5].join("."));
        assert!(normal(&long).is_err());
    }
}
