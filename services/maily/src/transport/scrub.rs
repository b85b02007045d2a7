//! Takes addresses out of what an SMTP server says: servers echo them ("550 <a@b.c> unknown"), and their answers are
//! logged and kept. Rather too much is taken out than too little.

use std::net::IpAddr;

/// What stands in place of what was taken out.
const REMOVED: &str = "[removed]";
/// Longest text that is kept, in characters.
const TEXT_LIMIT: usize = 240;

/// Knows one recipient and removes every trace of it, of any other address and of any IP.
pub(super) struct Scrubber {
    /// Lower-case pieces of the recipient's address, longest first.
    pieces: Vec<String>,
}

impl Scrubber {
    /// For answers about the recipient `to`.
    pub(super) fn new(to: &str) -> Self {
        let to = to.trim().to_lowercase();
        let (local, domain) = to.rsplit_once('@').unwrap_or((&to, ""));
        // `jane+news` may be echoed as `jane`, `"jane doe"` without its quotes.
        let bare = local.trim_matches('"');
        let base = bare.split('+').next().unwrap_or(bare);
        let mut pieces: Vec<String> =
            [to.as_str(), local, bare, base, domain].into_iter().map(str::to_owned).collect();
        pieces.retain(|piece| piece.chars().any(char::is_alphanumeric));
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        pieces.dedup();
        Self { pieces }
    }

    /// For answers that are about nobody.
    pub(super) fn nobody() -> Self {
        Self { pieces: Vec::new() }
    }

    /// One line of bounded length without addresses.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for piece in &self.pieces {
            text = without_word(&text, piece);
        }
        let words: Vec<_> = text.split_whitespace().map(without_addresses).collect();
        words.join(" ").chars().take(TEXT_LIMIT).collect()
    }
}

/// Replaces `word` (lower case) wherever it stands in `text` by itself, in any case.
fn without_word(text: &str, word: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let stands_alone = |end: usize| {
            let after = rest.get(end..).and_then(|after| after.chars().next());
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        };
        match prefix_in_any_case(rest, word) {
            Some(end) if stands_alone(end) => {
                result.push_str(REMOVED);
                rest = rest.get(end..).unwrap_or_default();
                before = word.chars().last();
            }
            _ => {
                result.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
                before = Some(first);
            }
        }
    }
    result
}

/// Length in bytes of the beginning of `text` that is `word` when in lower case.
fn prefix_in_any_case(text: &str, word: &str) -> Option<usize> {
    let mut wanted = word.chars();
    for (at, c) in text.char_indices() {
        for lower in c.to_lowercase() {
            match wanted.next() {
                None => return Some(at),
                Some(expected) if expected == lower => {}
                Some(_) => return None,
            }
        }
    }
    wanted.next().is_none().then_some(text.len())
}

/// Replaces those parts of a word between brackets, quotes and the like that are an address or an IP.
fn without_addresses(word: &str) -> String {
    let is_edge = |c: char| "<>()[]{}\"'`,;|=".contains(c);
    let mut result = String::with_capacity(word.len());
    let mut start = 0;
    let ends = word.match_indices(is_edge).chain([(word.len(), "")]);
    for (end, edge) in ends {
        let part = word.get(start..end).unwrap_or_default();
        result.push_str(if is_address(part) { REMOVED } else { part });
        result.push_str(edge);
        start = end + edge.len();
    }
    result
}

fn is_address(part: &str) -> bool {
    let bare = part.trim_end_matches(['.', ':', '!', '?']);
    let bare = bare.strip_prefix("IPv6:").unwrap_or(bare);
    // A full-width sign and a URL's escape are addresses too.
    let has_sign = bare.contains(['@', '\u{ff20}']) || bare.contains("%40");
    let ip_of_pair = || bare.rsplit_once(':').is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok());
    has_sign || bare.parse::<IpAddr>().is_ok() || ip_of_pair()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_address_goes_and_the_status_stays() {
        let scrubber = Scrubber::new("Jane.Doe+news@Mail.Example");
        for (said, kept) in [
            ("5.1.1 <jane.doe+news@mail.example>: unknown", "5.1.1 <[removed]>: unknown"),
            ("5.1.1 JANE.DOE+NEWS@MAIL.EXAMPLE unknown", "5.1.1 [removed] unknown"),
            ("4.2.2 mailbox jane.doe+news is full", "4.2.2 mailbox [removed] is full"),
            ("4.2.2 mailbox jane.doe's is full", "4.2.2 mailbox [removed]'s is full"),
            ("5.7.1 relaying to mail.example denied", "5.7.1 relaying to [removed] denied"),
            ("5.7.1 from=<root@host> to=<x@y.z>", "5.7.1 from=<[removed]> to=<[removed]>"),
            ("5.1.0 a@b.c,d@e.f.", "5.1.0 [removed],[removed]"),
            ("see https://x.example/?to=a%40b.c", "see https://x.example/?to=[removed]"),
        ] {
            assert_eq!(scrubber.clean(said), kept);
        }
    }

    #[test]
    fn a_short_local_part_leaves_other_words_whole() {
        let scrubber = Scrubber::new("a@b.c");
        assert_eq!(scrubber.clean("5.1.1 mailbox a@b.c unavailable"), "5.1.1 mailbox [removed] unavailable");
        assert_eq!(scrubber.clean("no such mailbox: a"), "no such mailbox: [removed]");
    }

    #[test]
    fn ips_go_and_versions_stay() {
        let scrubber = Scrubber::nobody();
        assert_eq!(
            scrubber.clean("5.7.1 [203.0.113.9] listed, 192.0.2.1:25, (2001:db8::1), [IPv6:2001:db8::2]"),
            "5.7.1 [[removed]] listed, [removed], ([removed]), [[removed]]"
        );
        assert_eq!(scrubber.clean("TLS 1.3 5.7.26 8.17.1"), "TLS 1.3 5.7.26 8.17.1");
    }

    #[test]
    fn a_quoted_local_part_with_a_space_goes() {
        let scrubber = Scrubber::new("\"jane doe\"@mail.example");
        assert_eq!(scrubber.clean("no \"jane doe\"@mail.example"), "no [removed]");
        assert_eq!(scrubber.clean("no Jane Doe here"), "no [removed] here");
    }

    #[test]
    fn letters_beyond_ascii_are_compared_in_any_case() {
        let scrubber = Scrubber::new("ÉLODIE@mail.example");
        assert_eq!(scrubber.clean("élodie? Élodie! x élodies"), "[removed]? [removed]! x élodies");
    }

    #[test]
    fn lines_become_one_of_bounded_length() {
        let text = Scrubber::nobody().clean(&format!("one\r\ntwo\u{7} {}", "x".repeat(5_000)));
        assert!(text.starts_with("one two xxx"));
        assert_eq!(text.chars().count(), TEXT_LIMIT);
    }
}
