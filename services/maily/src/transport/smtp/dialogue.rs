//! What was said on a connection, line by line, for an operator who tries it out. Ordinary mails keep none.

use std::sync::{Arc, Mutex, PoisonError};

use super::reply::Reply;

/// Takes down a conversation, or nothing. Secrets are hidden by whoever says them.
#[derive(Clone, Default)]
pub(in crate::transport) struct Dialogue(Option<Arc<Mutex<Vec<String>>>>);

impl Dialogue {
    /// One that keeps every line.
    pub(in crate::transport) fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// The lines so far.
    pub(in crate::transport) fn lines(&self) -> Vec<String> {
        self.0
            .as_ref()
            .map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    pub(in crate::transport) fn note(&self, text: &str) {
        self.push(|| format!("* {text}"));
    }

    pub(super) fn sent(&self, line: &str) {
        self.push(|| format!("> {line}"));
    }

    pub(super) fn received(&self, reply: &Reply) {
        let last = reply.lines.len().saturating_sub(1);
        for (number, line) in reply.lines.iter().enumerate() {
            let mark = if number == last && reply.is_whole { ' ' } else { '-' };
            // What a server says must not move the terminal's cursor.
            let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            self.push(|| format!("< {}{mark}{line}", reply.code).trim_end().to_owned());
        }
    }

    fn push(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line());
        }
    }
}
