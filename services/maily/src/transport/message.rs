//! Packs a mail as an Internet message (RFC 5322, MIME) and names it.

use aws_lc_rs::digest;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};

use chrono::{DateTime, Utc};

use super::{OutgoingMail, SendError, Stage, dkim::Signer};

/// Longest left side of a Message-ID that is written out; a longer one becomes its digest.
const ID_LIMIT: usize = 120;

/// A message ready to go, with its envelope.
pub(super) struct Packed {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) message_id: String,
    /// The whole message, lines ended by CRLF; ASCII unless the recipient's address is not.
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    /// Packs `mail`; its address is the envelope's as well as the header's.
    ///
    /// # Errors
    /// [`SendError::Permanent`] for what is no address, without repeating it.
    pub(super) fn new(from: &Mailbox, mail: &OutgoingMail) -> Result<Self, SendError> {
        let to = parse_address(&mail.to).ok_or_else(|| unsendable("the address cannot be parsed"))?;
        let from = match ascii_domain(&from.email) {
            Some(email) => Mailbox::new(from.name.clone(), email),
            None => from.clone(),
        };
        let message = Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(mail.rendered.subject.as_str())
            .date(mail.date.into())
            .message_id(Some(mail.message_id.clone()))
            .raw_header(header("Content-Language", &mail.rendered.locale))
            // RFC 3834: nobody's holiday notice is to answer this.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .multipart(MultiPart::alternative_plain_html(
                mail.rendered.text.clone(),
                mail.rendered.html.clone(),
            ))
            .map_err(|_| unsendable("the message cannot be packed"))?;
        Ok(Self { from: from.email, to, message_id: mail.message_id.clone(), bytes: message.formatted() })
    }

    /// Puts a signature in front.
    ///
    /// # Errors
    /// When the library refuses to sign.
    pub(super) fn sign(&mut self, signer: &Signer, now: DateTime<Utc>) -> Result<(), SendError> {
        let mut signed =
            signer.header(&self.bytes, now).map_err(|error| unsendable(&error.to_string()))?.into_bytes();
        signed.append(&mut self.bytes);
        self.bytes = signed;
        Ok(())
    }

    /// Whether an address needs a server that knows more than ASCII.
    pub(super) fn is_international(&self) -> bool {
        [&self.from, &self.to]
            .iter()
            .any(|address| !address.user().is_ascii() || !address.domain().is_ascii())
    }
}

/// The Message-ID of the mail that the event `event_id` asks for, in angle brackets: the same event has the same one,
/// and two events never share one. Characters that may not stand there are written `=XX` (RFC 5322, section 3.6.4).
#[must_use]
pub fn message_id(event_id: &str, from: &Mailbox) -> String {
    let mut left = String::with_capacity(event_id.len());
    for byte in event_id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            left.push(char::from(byte));
        } else {
            left.push_str(&format!("={byte:02X}"));
        }
    }
    if left.is_empty() || left.len() > ID_LIMIT {
        // `=` and a lower-case letter: no escape looks like it.
        left = format!("=sha256-{}", hex(digest::digest(&digest::SHA256, event_id.as_bytes()).as_ref()));
    }
    let email = ascii_domain(&from.email);
    let domain = email.as_ref().unwrap_or(&from.email).domain();
    format!("<{left}@{domain}>")
}

/// The domain of an address as DNS has it.
pub(super) fn ascii_domain_of(mailbox: &Mailbox) -> String {
    ascii_domain(&mailbox.email).as_ref().unwrap_or(&mailbox.email).domain().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn unsendable(text: &str) -> SendError {
    SendError::Permanent { stage: Stage::Message, code: None, text: text.into() }
}

/// A bare address, its domain as DNS and every server know it.
fn parse_address(text: &str) -> Option<Address> {
    // What is quoted may hold anything, and goes into a command of one line.
    if text.chars().any(char::is_control) {
        return None;
    }
    let address: Address = text.trim().parse().ok()?;
    Some(ascii_domain(&address).unwrap_or(address))
}

/// The address with an international domain in its ASCII form (RFC 5890): only few servers take the other
/// (SMTPUTF8). `None` when there is nothing to change.
fn ascii_domain(address: &Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return None;
    }
    match url::Host::parse(address.domain()).ok()? {
        url::Host::Domain(domain) => Address::new(address.user(), domain).ok(),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders as _};

    use super::*;
    use crate::transport::samples;

    fn packed(mail: &OutgoingMail) -> Vec<u8> {
        Packed::new(&samples::from(), mail).unwrap().bytes
    }

    #[test]
    fn a_reader_finds_both_parts_and_every_header() {
        let mail = samples::mail("zoé", "fr");
        let bytes = packed(&mail);
        assert!(bytes.is_ascii(), "needs no 8BITMIME");
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
        let message = MessageParser::default().parse(&bytes).unwrap();
        assert_eq!(message.subject(), Some("Bienvenue sur Orrery, zoé"));
        assert_eq!(message.message_id(), Some("0199-a@orrery.example"));
        assert_eq!(message.date().unwrap().to_rfc3339(), "2025-11-21T03:41:00Z");
        let from = message.from().unwrap().first().unwrap();
        assert_eq!((from.name(), from.address()), (Some("Orrery"), Some("no-reply@orrery.example")));
        assert_eq!(message.to().unwrap().first().unwrap().address(), Some("jane@mail.example"));
        assert_eq!(message.header_raw("Content-Language").unwrap().trim(), "fr");
        assert_eq!(message.header_raw("Auto-Submitted").unwrap().trim(), "auto-generated");
        assert!(message.is_content_type("multipart", "alternative"));
        let text_of = |parts: &[u32]| {
            let part = usize::try_from(*parts.first().unwrap()).unwrap();
            message.parts.get(part).and_then(|part| part.text_contents()).unwrap().to_owned()
        };
        let plain = text_of(&message.text_body);
        assert_eq!(plain.replace("\r\n", "\n").trim_end(), mail.rendered.text.trim_end());
        let html = text_of(&message.html_body);
        assert_eq!(html.replace("\r\n", "\n").trim_end(), mail.rendered.html.trim_end());
    }

    #[test]
    fn a_subject_cannot_add_a_header() {
        let mut mail = samples::mail("ada", "en");
        mail.rendered.subject = "hello\r\nBcc: x@y.example\r\n\r\nbody".into();
        let bytes = packed(&mail);
        let message = MessageParser::default().parse(&bytes).unwrap();
        assert!(message.bcc().is_none());
        assert!(!String::from_utf8(bytes).unwrap().contains("\nBcc:"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for to in
            ["", "jane", "jane@", "@x.example", "jane@x.example\r\nDATA", "Jane <jane@x.example>", "a b@c.d"]
        {
            let mail = OutgoingMail { to: to.into(), ..samples::mail("ada", "en") };
            let error = Packed::new(&samples::from(), &mail).err().unwrap();
            assert!(
                matches!(error, SendError::Permanent { stage: Stage::Message, code: None, .. }),
                "{to:?}"
            );
            assert!(!format!("{error} {error:?}").contains("jane"), "{error:?}");
        }
    }

    #[test]
    fn an_international_domain_is_sent_in_ascii() {
        let mail = OutgoingMail { to: "jane@bücher.example".into(), ..samples::mail("ada", "en") };
        let packed = Packed::new(&samples::from(), &mail).unwrap();
        assert_eq!(packed.to.to_string(), "jane@xn--bcher-kva.example");
        let from = "Orrery <no-reply@bücher.example>".parse().unwrap();
        assert_eq!(message_id("a", &from), "<a@xn--bcher-kva.example>");
    }

    #[test]
    fn an_event_has_one_message_id_and_shares_it_with_no_other() {
        let from = samples::from();
        assert_eq!(message_id("0199-a_B", &from), "<0199-a_B@orrery.example>");
        let long = "x".repeat(500);
        let mut ids: Vec<_> = ["a.b", "a=2Eb", "a b", "", ".", "<a>", "é", "a\r\nBcc: x", long.as_str()]
            .iter()
            .map(|event| message_id(event, &from))
            .collect();
        for id in &ids {
            assert!(id.len() < 200 && id.is_ascii() && !id.contains(char::is_whitespace), "{id}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 9);
    }
}
