//! Patterns of a topic exchange: words between dots, `*` for any one word, `#` for any number of them.

/// Whether some routing key fits both patterns.
pub fn overlap(one: &str, other: &str) -> bool {
    let one: Vec<_> = one.split('.').collect();
    let other: Vec<_> = other.split('.').collect();
    words_overlap(&one, &other)
}

fn words_overlap(one: &[&str], other: &[&str]) -> bool {
    match (one, other) {
        ([], []) => true,
        (["#", rest @ ..], words) | (words, ["#", rest @ ..]) => {
            (0..=words.len()).any(|skip| words.get(skip..).is_some_and(|words| words_overlap(rest, words)))
        }
        ([word, one @ ..], [same, other @ ..]) => {
            (word == same || *word == "*" || *same == "*") && words_overlap(one, other)
        }
        _ => false,
    }
}

/// The regular expression, as RabbitMQ's topic permissions take it, that fits the same keys.
pub fn regex(patterns: &[String]) -> String {
    let alternatives: Vec<_> = patterns.iter().map(|pattern| alternative(pattern)).collect();
    if alternatives.is_empty() { "^$".to_owned() } else { format!("^({})$", alternatives.join("|")) }
}

fn alternative(pattern: &str) -> String {
    let mut regex = String::new();
    for word in pattern.split('.') {
        let dot = if regex.is_empty() { "" } else { "\\." };
        match word {
            // No word at all fits too, and then the dot before it is missing as well.
            "#" => regex.push_str(&format!("({dot}.+)?")),
            "*" => regex.push_str(&format!("{dot}[^.]+")),
            // Only letters, digits, - and _ (see `config::partner`), so nothing is to be escaped.
            word => regex.push_str(&format!("{dot}{word}")),
        }
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_a_key_fits_both() {
        for (one, other) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("a.#", "a"),
            ("#", "a.b.c"),
            ("a.#.z", "a.b.#"),
            ("*.b.#", "a.#"),
            ("a.*.c", "*.b.*"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a.b", "a.c"), ("a.*", "a"), ("a.*", "a.b.c"), ("a.#.z", "b.#"), ("a.#", "b")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_pattern_is_a_regex_that_fits_no_more() {
        let regex = |pattern: &str| super::regex(&[pattern.to_owned()]);
        assert_eq!(regex("com.acme.*"), r"^(com\.acme\.[^.]+)$");
        assert_eq!(regex("com.acme.#"), r"^(com\.acme(\..+)?)$");
        assert_eq!(super::regex(&[]), "^$");
        assert_eq!(super::regex(&["a.b.c".to_owned(), "d.e.*".to_owned()]), r"^(a\.b\.c|d\.e\.[^.]+)$");
    }
}
