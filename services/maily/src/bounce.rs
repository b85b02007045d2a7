//! Bounces: which sender an envelope gets, so that what comes back proves whose mail it was, and what a report says (RFC 3464). Where
//! reports are read from lives in `maildir`, what follows from them in `suppression`.

use aws_lc_rs::hmac;
use lettre::Address;
use mail_parser::{MessageParser, MimeHeaders as _};

/// Bytes of the proof that are written out: 80 bits, which nobody guesses one by one.
const PROOF_BYTES: usize = 10;

/// The sender of envelopes: `bounces+<proof>@domain`, where the proof is made of the recipient. A report that comes back to it is about
/// a mail that we sent to that recipient; anybody can write other ones, to have an address suppressed that is not theirs.
#[derive(Clone)]
pub struct ReturnPath {
    address: Address,
    /// The first one proves, all are believed.
    keys: Vec<hmac::Key>,
}

/// What a report says of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounce {
    /// Whom the mail could not reach, as the report writes it.
    pub recipient: String,
    /// The enhanced status, `5.1.1`.
    pub status: String,
}

impl ReturnPath {
    /// For the address of the configuration, with keys that every replica has.
    #[must_use]
    pub fn new<'a>(address: Address, ring: impl Iterator<Item = &'a [u8]>) -> Self {
        let derived = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"maily.bounces");
        Self {
            address,
            keys: ring.map(|key| hmac::Key::new(hmac::HMAC_SHA256, derived(key).as_ref())).collect(),
        }
    }

    /// The envelope's sender for a mail to `to`.
    #[must_use]
    pub fn of(&self, to: &Address) -> Option<Address> {
        let key = self.keys.first()?;
        let user = format!("{}+{}", self.address.user(), proof(key, to.as_ref()));
        Address::new(user, self.address.domain()).ok()
    }

    /// Whether one of `addresses` proves that we sent a mail to `recipient`.
    #[must_use]
    pub fn is_proven<'a>(&self, recipient: &str, addresses: impl Iterator<Item = &'a str> + Clone) -> bool {
        let expected =
            |key| format!("{}+{}@{}", self.address.user(), proof(key, recipient), self.address.domain());
        // Comparing in constant time gains nothing here: nobody can try often enough through a mailbox.
        self.keys
            .iter()
            .map(expected)
            .any(|expected| addresses.clone().any(|address| address.trim().eq_ignore_ascii_case(&expected)))
    }
}

fn proof(key: &hmac::Key, recipient: &str) -> String {
    let tag = hmac::sign(key, recipient.trim().to_lowercase().as_bytes());
    tag.as_ref().iter().take(PROOF_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Debug for ReturnPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReturnPath").finish_non_exhaustive()
    }
}

/// The recipients that a report says could never be reached, and that its own address proves to be ours.
#[must_use]
pub fn permanent(report: &[u8], path: &ReturnPath) -> Vec<Bounce> {
    let Some(message) = MessageParser::default().parse(report) else { return Vec::new() };
    let delivered_to: Vec<&str> = ["Delivered-To", "X-Original-To", "To", "Envelope-To"]
        .iter()
        .flat_map(|name| message.headers_raw().filter(move |(header, _)| header.eq_ignore_ascii_case(name)))
        .flat_map(|(_, value)| value.split([',', ' ', '<', '>', '\r', '\n', '\t']))
        .filter(|word| word.contains('@'))
        .collect();
    let reports = message
        .parts
        .iter()
        .filter(|part| part.is_content_type("message", "delivery-status"))
        .map(|part| String::from_utf8_lossy(part.contents()).into_owned());
    let mut bounces: Vec<Bounce> = reports.flat_map(|report| failed(&report)).collect();
    bounces.retain(|bounce| path.is_proven(&bounce.recipient, delivered_to.iter().copied()));
    bounces
}

/// The groups of a report whose action is `failed` and whose status is permanent.
fn failed(report: &str) -> Vec<Bounce> {
    let report = report.replace("\r\n", "\n");
    let mut bounces = Vec::new();
    for group in report.split("\n\n") {
        let field = |name: &str| {
            let mut lines = group.lines().filter_map(|line| line.split_once(':'));
            lines
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        // `rfc822; jane@mail.example`
        let recipient = field("Original-Recipient").or_else(|| field("Final-Recipient"));
        let recipient = recipient
            .as_deref()
            .map(|text| text.rsplit_once(';').map_or(text, |(_, address)| address).trim().to_owned());
        let (Some(recipient), Some(action), Some(status)) = (recipient, field("Action"), field("Status"))
        else {
            continue;
        };
        let status = status.split_whitespace().next().unwrap_or_default().to_owned();
        if action.eq_ignore_ascii_case("failed") && status.starts_with("5.") && is_about_the_address(&status)
        {
            bounces.push(Bounce { recipient: recipient.trim_matches(['<', '>']).to_owned(), status });
        }
    }
    bounces
}

/// Whether a status says that the address is wrong (RFC 3463: 5.1.x, 5.2.1, 5.4.4), not that it refuses this mail (5.7.x) or is full.
fn is_about_the_address(status: &str) -> bool {
    status.starts_with("5.1.") || matches!(status, "5.2.1" | "5.4.4" | "5.0.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> ReturnPath {
        ReturnPath::new("bounces@orrery.example".parse().unwrap(), [[7_u8; 32].as_slice()].into_iter())
    }

    fn report(to: &str, status: &str, action: &str) -> String {
        format!(
            "From: MAILER-DAEMON@mail.example\r\nTo: <{to}>\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nsorry\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; mail.example\r\n\r\nFinal-Recipient: rfc822; Jane@Mail.example\r\n\
             Action: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
        )
    }

    #[test]
    fn a_report_to_the_address_that_proves_it_is_believed() {
        let sender = path().of(&"jane@mail.example".parse().unwrap()).unwrap().to_string();
        let bounces = permanent(report(&sender, "5.1.1", "failed").as_bytes(), &path());
        assert_eq!(bounces, [Bounce { recipient: "Jane@Mail.example".into(), status: "5.1.1".into() }]);
        for (status, action) in
            [("4.2.2", "failed"), ("5.7.1", "failed"), ("5.1.1", "delayed"), ("2.0.0", "delivered")]
        {
            assert_eq!(
                permanent(report(&sender, status, action).as_bytes(), &path()),
                [],
                "{status} {action}"
            );
        }
    }

    #[test]
    fn a_report_that_anybody_could_have_written_is_not() {
        let other = path().of(&"joe@mail.example".parse().unwrap()).unwrap().to_string();
        for to in [other.as_str(), "bounces@orrery.example", "bounces+00000000000000000000@orrery.example"] {
            assert_eq!(permanent(report(to, "5.1.1", "failed").as_bytes(), &path()), [], "{to}");
        }
        assert_eq!(permanent(b"\xff\xfe nonsense", &path()), []);
    }
}
