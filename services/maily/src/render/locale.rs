//! Which of the locales there are serves a reader.

/// The locale nearest to `tag` among `known`: the tag itself, then with its last subtags cut off one after another (RFC 4647, section
/// 3.4). `None` when not even the language is there.
pub(super) fn find<'a>(tag: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<&'a str> {
    // Tags in the wild are also written `fr_CA` and `fr_FR.UTF-8`.
    let tag = tag.split('.').next()?.trim().replace('_', "-");
    let mut range = tag.as_str();
    loop {
        if let Some(locale) = known.clone().into_iter().find(|locale| locale.eq_ignore_ascii_case(range)) {
            return Some(locale);
        }
        range = range.rsplit_once('-')?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["en", "fr", "pt-BR"];

    #[test]
    fn a_tag_falls_back_to_its_language() {
        for tag in ["fr", "FR", "fr-CA", "fr_CA", "fr-Latn-CA-x-private", "fr_FR.UTF-8", " fr "] {
            assert_eq!(find(tag, KNOWN), Some("fr"), "{tag}");
        }
        assert_eq!(find("en-GB", KNOWN), Some("en"));
        assert_eq!(find("pt-br", KNOWN), Some("pt-BR"));
    }

    #[test]
    fn a_foreign_or_malformed_tag_finds_nothing() {
        for tag in ["de", "frr", "", "-", "-fr", "x-fr", "*", "fr\r\nBcc", "pt"] {
            assert_eq!(find(tag, KNOWN), None, "{tag:?}");
        }
    }
}
