//! Text for a terminal and for programs: what third parties wrote must not move the cursor, and ages are short.

use serde::Serialize;

/// Whether a terminal might obey the character, or show the ones around it in another order.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with whatever a terminal might obey written out: `\u{1b}`.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// One line of JSON, safe to be shown: what is escaped can only stand within texts, where JSON has an escape for it.
///
/// # Errors
/// When the value has no JSON.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(escaped(&serde_json::to_string(value)?))
}

/// The same over several lines, for people.
///
/// # Errors
/// When the value has no JSON.
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let lines = serde_json::to_string_pretty(value)?;
    Ok(lines.lines().map(escaped).collect::<Vec<_>>().join("\n"))
}

fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// How long ago, in its largest unit: `12 s`, `3 min`, `5 h`, `2 days`. Clocks differ: what is to come counts as now.
pub fn age(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    let seconds = seconds.max(0.0);
    let (n, unit) = match seconds {
        s if s < MINUTE => (s, "s"),
        s if s < HOUR => (s / MINUTE, "min"),
        s if s < 2.0 * DAY => (s / HOUR, "h"),
        s => (s / DAY, "days"),
    };
    format!("{:.0} {unit}", n.floor())
}

/// `12,345`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 letter`, `2 letters`, `12,345 letters`.
pub fn count(n: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\u{1b}[2J\r\n\u{7f}\u{9b}31m\u{202e}b é";
        let shown = safe(hostile);
        assert!(!shown.chars().any(is_unsafe), "{shown}");
        assert!(shown.starts_with("a\\u{1b}[2J") && shown.ends_with("b é"), "{shown}");
        let line = json(&hostile).unwrap();
        assert!(!line.chars().any(is_unsafe), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
        assert!(!pretty(&[hostile]).unwrap().replace('\n', "").chars().any(is_unsafe));
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        for (seconds, told) in [
            (-3.0, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (7199.0, "1 h"),
            (172_799.0, "47 h"),
            (200_000.0, "2 days"),
        ] {
            assert_eq!(age(seconds), told);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(1, "letter"), "1 letter");
        assert_eq!(count(1000, "letter"), "1,000 letters");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
    }
}
