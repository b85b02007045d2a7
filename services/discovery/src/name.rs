//! The name of a peer: the vanity name of its account, in lower case. It reaches no log, no metric and no table.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest name of an account.
const LONGEST: usize = 64;

/// A peer's name.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// A text is no name of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// No account has such a name.
    #[error("this is no name")]
    Malformed,
    /// It is a name of another instance.
    #[error("the recipient is of another server")]
    Foreign,
}

impl Name {
    /// A name without a server.
    ///
    /// # Errors
    /// When no account can have it.
    pub fn new(text: &str) -> Result<Self, NameFault> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(is_name) {
            return Err(NameFault::Malformed);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The subject of a token: a name, and a server after it that is not looked at.
    ///
    /// # Errors
    /// When no account can have it.
    pub fn of_subject(subject: &str) -> Result<Self, NameFault> {
        Self::new(subject.split_once('@').map_or(subject, |(name, _)| name))
    }

    /// `name` or `name@server`, where the server is ours; an empty `domain` takes any.
    ///
    /// # Errors
    /// When no account can have it, or its server is another.
    pub fn of_address(address: &str, domain: &str) -> Result<Self, NameFault> {
        let Some((name, server)) = address.split_once('@') else { return Self::new(address) };
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let is_ours = |text: &str| text.eq_ignore_ascii_case(domain);
        if !domain.is_empty() && !is_ours(server) && !is_ours(host) {
            return Err(NameFault::Foreign);
        }
        Self::new(name)
    }

    /// As a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is logged by mistake tells no name.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name")
    }
}

impl TryFrom<String> for Name {
    type Error = NameFault;

    fn try_from(text: String) -> Result<Self, NameFault> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_this_server_or_refused() {
        let name = |address, domain| Name::of_address(address, domain).map(String::from);
        assert_eq!(name("Bob@id.example", "id.example"), Ok("bob".to_owned()));
        assert_eq!(name("bob@ID.example:8080", "id.example"), Ok("bob".to_owned()));
        assert_eq!(name("bob", "id.example"), Ok("bob".to_owned()));
        assert_eq!(name("bob@elsewhere.example", ""), Ok("bob".to_owned()));
        assert_eq!(name("bob@elsewhere.example", "id.example"), Err(NameFault::Foreign));
        for address in ["", "@id.example", "b b", "bób", &"b".repeat(65), "bob/../x"] {
            assert_eq!(name(address, "id.example"), Err(NameFault::Malformed), "{address}");
        }
    }

    #[test]
    fn a_name_is_not_shown_for_debugging() {
        assert_eq!(format!("{:?}", Name::new("bob").unwrap()), "Name");
    }
}
