//! Whether text is a URI-reference (RFC 3986, section 4.1). Checks characters and structure; resolves and normalises nothing,
//! since a `source` is compared as it was written.

/// Tells whether `text` is a non-empty URI-reference.
///
/// Checked are the characters, the percent escapes, the scheme, that `#` stands once at most and that brackets stand in the
/// authority only. Characters beyond ASCII must be percent-encoded.
pub(crate) fn is_reference(text: &str) -> bool {
    if text.is_empty() || !text.bytes().all(is_uri_byte) || !escapes_are_whole(text) {
        return false;
    }
    let (before_fragment, fragment) = text.split_once('#').unwrap_or((text, ""));
    if fragment.contains(['#', '[', ']']) {
        return false;
    }
    let rest = match split_scheme(before_fragment) {
        Some((scheme, rest)) if is_scheme(scheme) => rest,
        Some(_) => return false,
        None => before_fragment,
    };
    let outside_authority = match rest.strip_prefix("//") {
        Some(hierarchy) => {
            hierarchy.find(['/', '?']).map_or("", |end| hierarchy.get(end..).unwrap_or_default())
        }
        None => rest,
    };
    !outside_authority.contains(['[', ']'])
}

/// Splits at the colon that would end a scheme: the first one, if no `/` or `?` stands before it.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    (!scheme.contains(['/', '?'])).then_some((scheme, rest))
}

fn is_scheme(scheme: &str) -> bool {
    scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// Every `%` is followed by two hexadecimal digits.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut bytes = after.bytes();
        matches!((bytes.next(), bytes.next()), (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_every_form_are_accepted() {
        for good in [
            "/",
            "orrery",
            "../autha",
            "/autha/accounts",
            "//autha/x",
            "autha?x=1:2",
            "#top",
            "./1:2",
            "https://github.com/cloudevents/spec/pull/123",
            "http://[::1]:8080/a?b#c",
            "mailto:cncf-wg-serverless@lists.cncf.io",
            "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
            "1-555-123-4567",
            "a%20b",
        ] {
            assert!(is_reference(good), "{good}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            " ",
            "a b",
            "a\n",
            "é",
            "<a>",
            "a|b",
            "{x}",
            "a%",
            "a%2",
            "a%zz",
            "a#b#c",
            "://x",
            "1a:b",
            "a_b:c",
            "a[0]",
            "http://h/[",
            "a#[",
            "\\\\host",
            "%é",
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
