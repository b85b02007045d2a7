//! Texts that others wrote, as they may stand in a mail: bounded, of one line, without what turns or forges what is around them.

use chrono::{DateTime, Utc};
use orrery_schemas::email::Detail;

use super::RenderError;

/// A moment of RFC 3339.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, RenderError> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| RenderError::Unusable(Detail::Until))
}

/// A link as it may stand in a mail: whole, of a scheme that a browser opens.
pub(super) fn usable_link(link: &str) -> Option<String> {
    let url = url::Url::parse(link.trim()).ok()?;
    (matches!(url.scheme(), "https" | "http") && url.has_host()).then(|| url.to_string())
}

/// A text as it may stand in a mail: one line of bounded length.
pub(super) fn limited(text: &str, limit: usize) -> String {
    let text = one_line(text);
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Folds all white space and control characters to single spaces, so that no header can be injected and no line of a
/// mail forged, and drops characters that turn the direction of what follows.
pub(super) fn one_line(text: &str) -> String {
    let turns =
        |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_space = |c: char| c.is_control() || (c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{202f}'));
    let plain: String =
        text.chars().filter(|c| !turns(c)).map(|c| if is_space(c) { ' ' } else { c }).collect();
    plain.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Plain text without more than one empty line in a row.
pub(super) fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut was_empty = true;
    for line in text.lines() {
        // The mark before a signature ends with a space (RFC 3676, section 4.3).
        let line = if line == "-- " { line } else { line.trim_end() };
        if line.is_empty() && was_empty {
            continue;
        }
        was_empty = line.is_empty();
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied.truncate(tidied.trim_end_matches('\n').len());
    tidied + "\n"
}
