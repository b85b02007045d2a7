//! A sender and a mail for the tests of this folder.

use chrono::DateTime;
use lettre::message::Mailbox;

use super::OutgoingMail;
use crate::render::{MailContext, Renderer};

pub(super) fn from() -> Mailbox {
    "Orrery <no-reply@orrery.example>".parse().unwrap()
}

/// A welcome to `jane@mail.example`.
pub(super) fn mail(username: &str, locale: &str) -> OutgoingMail {
    let date = DateTime::from_timestamp(1_763_696_460, 0).unwrap();
    let context = MailContext { username: username.into(), occurred_at: date };
    OutgoingMail {
        to: "jane@mail.example".into(),
        rendered: Renderer::new("Orrery", "en").unwrap().render("welcome", locale, &context).unwrap(),
        message_id: "<0199-a@orrery.example>".into(),
        date,
    }
}
