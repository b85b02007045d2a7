//! The name by which others find an account, which its owner may write in any case.

/// A vanity name: the look-up key, and as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanity {
    /// Lower-cased.
    pub key: String,
    /// With its case.
    pub display: String,
}

impl Vanity {
    /// The name, if it may be one.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = (2..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        valid.then(|| Self { key: text.to_ascii_lowercase(), display: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_to_sixty_four_of_the_allowed() {
        for good in ["ab", "A_1", &"x".repeat(64)] {
            assert!(Vanity::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a", "a b", "é_", "a-b", "../x", &"x".repeat(65), "a\0"] {
            assert!(Vanity::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Vanity::parse("BoB").unwrap().key, "bob");
    }
}
