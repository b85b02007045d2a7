//! Telling a topic of ntfy (docs.ntfy.sh/publish): one message for all that is to be told at once.

use std::{fmt::Write as _, time::Duration};

use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{rules::Severity, state::Note};
use crate::{client::client, text};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);
/// ntfy makes a file of a longer message.
const LONGEST: usize = 3_800;

/// Why nothing was told. The topic stands in none of it.
#[derive(Debug, thiserror::Error)]
pub enum NtfyError {
    /// No answer.
    #[error("ntfy does not answer: {0}")]
    Away(String),
    /// A refusal.
    #[error("ntfy answered {0}")]
    Refused(StatusCode),
}

/// A topic.
pub struct Ntfy {
    client: Client,
    topic: Url,
    token: Option<SecretString>,
}

impl Ntfy {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(topic: Url, token: Option<SecretString>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client([&topic], LIMIT)?, topic, token })
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// When it was not taken.
    pub async fn send(&self, notes: &[Note]) -> Result<(), NtfyError> {
        let (priority, tag) = match notes.iter().filter(|note| !note.is_over).map(|note| note.severity).max()
        {
            Some(Severity::Page) => ("urgent", "rotating_light"),
            Some(Severity::Ticket | Severity::None) => ("default", "warning"),
            None => ("low", "white_check_mark"),
        };
        let mut request = self
            .client
            .post(self.topic.clone())
            .header("title", title(notes))
            .header("priority", priority)
            .header("tags", tag)
            .body(body(notes));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let answer =
            request.send().await.map_err(|error| NtfyError::Away(error.without_url().to_string()))?;
        if answer.status().is_success() { Ok(()) } else { Err(NtfyError::Refused(answer.status())) }
    }
}

fn title(notes: &[Note]) -> String {
    let over = notes.iter().filter(|note| note.is_over).count();
    match (notes.len() - over, over) {
        (0, over) => format!("Orrery: {over} over"),
        (1, 0) => "Orrery: 1 alert".to_owned(),
        (new, 0) => format!("Orrery: {new} alerts"),
        (new, over) => format!("Orrery: {new} new, {over} over"),
    }
}

fn body(notes: &[Note]) -> String {
    let mut body = String::new();
    for (at, note) in notes.iter().enumerate() {
        let state = match (note.is_over, note.severity) {
            (true, _) => "over",
            (false, Severity::Page) => "page",
            (false, Severity::Ticket | Severity::None) => "ticket",
        };
        let line = format!("{state}: {} ({})\n", text::safe(&note.said), note.key.0);
        if body.len() + line.len() > LONGEST {
            // Writing to a text does not fail.
            let _written = writeln!(body, "and {} more: see the console", notes.len() - at);
            break;
        }
        body.push_str(&line);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_line_for_each_and_an_end() {
        let note = |n: usize, is_over| Note {
            key: ("OrreryDeadLetters".to_owned(), n.to_string()),
            severity: Severity::Ticket,
            said: format!("{n} dead letters of maily.email\u{1b} wait for a decision"),
            is_over,
        };
        let notes = [note(1, false), note(2, true)];
        assert_eq!(title(&notes), "Orrery: 1 new, 1 over");
        assert_eq!(
            body(&notes),
            "ticket: 1 dead letters of maily.email\\u{1b} wait for a decision (OrreryDeadLetters)\n\
             over: 2 dead letters of maily.email\\u{1b} wait for a decision (OrreryDeadLetters)\n"
        );
        let many: Vec<_> = (0..500).map(|n| note(n, false)).collect();
        let told = body(&many);
        assert!(told.len() < 4_096 && told.ends_with("more: see the console\n"), "{}", told.len());
    }
}
