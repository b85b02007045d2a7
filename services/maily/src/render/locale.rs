//! Which of our locales serves a reader.

use super::LOCALES;

/// The locale of ours nearest to `tag`: the tag itself, then with its last subtags cut off one after another
/// (RFC 4647, section 3.4). `None` when not even the language is ours.
#[must_use]
pub fn find_locale(tag: &str) -> Option<&'static str> {
    // Tags in the wild are also written `fr_CA` and `fr_FR.UTF-8`.
    let tag = tag.split('.').next()?.trim().replace('_', "-");
    let mut range = tag.as_str();
    loop {
        if let Some(locale) = LOCALES.iter().find(|locale| locale.eq_ignore_ascii_case(range)) {
            return Some(locale);
        }
        range = range.rsplit_once('-')?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_falls_back_to_its_language() {
        for tag in ["fr", "FR", "fr-CA", "fr_CA", "fr-Latn-CA-x-private", "fr_FR.UTF-8", " fr "] {
            assert_eq!(find_locale(tag), Some("fr"), "{tag}");
        }
        assert_eq!(find_locale("en-GB"), Some("en"));
    }

    #[test]
    fn a_foreign_or_malformed_tag_finds_nothing() {
        for tag in ["de", "frr", "", "-", "-fr", "x-fr", "*", "fr\r\nBcc"] {
            assert_eq!(find_locale(tag), None, "{tag:?}");
        }
    }
}
