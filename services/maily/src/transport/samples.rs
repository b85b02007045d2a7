//! A sender and a mail for the tests of this folder.

use std::sync::LazyLock;

use chrono::DateTime;
use lettre::message::Mailbox;

use orrery_schemas::email::{Details, Template};

use super::OutgoingMail;
use crate::{
    config::Config,
    render::{MailContext, Renderer},
};

/// Compiled once: it takes its time, and tests of a server's patience must not wait for it.
static RENDERER: LazyLock<Renderer> = LazyLock::new(|| Renderer::new(&Config::default()).unwrap());

pub(super) fn from() -> Mailbox {
    "Orrery <no-reply@orrery.example>".parse().unwrap()
}

/// A welcome to `jane@mail.example`.
pub(super) fn mail(username: &str, locale: &str) -> OutgoingMail {
    let date = DateTime::from_timestamp(1_763_696_460, 0).unwrap();
    let context =
        MailContext { username: username.into(), occurred_at: date, now: date, details: Details::default() };
    OutgoingMail {
        to: "jane@mail.example".into(),
        rendered: RENDERER.render(Template::Welcome, locale, &context).unwrap(),
        message_id: "<0199-a@orrery.example>".into(),
        date,
    }
}
