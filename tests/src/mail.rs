//! One mail as it was received or captured, parsed. Receiving is in `smtp`.

use std::time::Instant;

use bytes::Bytes;
use mail_parser::MessageParser;

/// A mail with its envelope and the parts that tests look at.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender; empty for a captured mail.
    pub from: String,
    /// The envelope's recipients; for a captured mail those of its headers.
    pub to: Vec<String>,
    /// The message as it came, dots unstuffed, lines ended by CRLF.
    pub raw: Bytes,
    /// When its last byte arrived, before it was answered.
    pub received_at: Instant,
    /// The decoded subject.
    pub subject: Option<String>,
    /// The decoded plain-text part; none where the mail has only HTML.
    pub text: Option<String>,
    /// The decoded HTML part; none where the mail has only text.
    pub html: Option<String>,
    /// The Message-ID without its angle brackets.
    pub message_id: Option<String>,
    /// The headers as they came, unfolded of nothing, names as written.
    pub headers: Vec<(String, String)>,
}

impl Mail {
    /// Parses `raw`; what cannot be parsed leaves its fields empty and stays readable in `raw`.
    #[must_use]
    pub fn parse(from: String, to: Vec<String>, raw: Bytes) -> Self {
        let received_at = Instant::now();
        let mut mail = Self {
            from,
            to,
            raw: raw.clone(),
            received_at,
            subject: None,
            text: None,
            html: None,
            message_id: None,
            headers: Vec::new(),
        };
        let Some(message) = MessageParser::default().parse(raw.as_ref()) else { return mail };
        // `body_text` and `body_html` would make one from the other: only what was really sent counts.
        let part = |ids: &[u32], html: bool| {
            ids.iter().find_map(|id| {
                let part = message.part(*id)?;
                (part.is_text_html() == html).then(|| part.text_contents().map(str::to_owned)).flatten()
            })
        };
        mail.subject = message.subject().map(str::to_owned);
        mail.text = part(&message.text_body, false);
        mail.html = part(&message.html_body, true);
        mail.message_id = message.message_id().map(str::to_owned);
        mail.headers =
            message.headers_raw().map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        if mail.to.is_empty() {
            let recipients = message.to().into_iter().flat_map(|to| to.iter());
            mail.to = recipients.filter_map(|to| to.address().map(str::to_owned)).collect();
        }
        mail
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the envelope names `address`, in any case.
    #[must_use]
    pub fn is_to(&self, address: &str) -> bool {
        self.to.iter().any(|to| to.eq_ignore_ascii_case(address))
    }
}
