//! Whom a peer lets know that it is there.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Who may see a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Those whom it named as its contacts.
    Contacts,
    /// Nobody.
    Hidden,
}

impl Visibility {
    /// As it stands in tables and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Contacts => "contacts",
            Self::Hidden => "hidden",
        }
    }

    /// What stands in a table.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Public, Self::Contacts, Self::Hidden].into_iter().find(|one| one.as_str() == text)
    }
}

/// What a peer has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Who may see it.
    pub visibility: Visibility,
    /// Whom it knows.
    pub contacts: HashSet<Name>,
    /// Whom it wants to hear nothing of, and who are to know nothing of it.
    pub blocked: HashSet<Name>,
}

impl Profile {
    /// Whether `viewer` may know of this peer, as far as this peer is concerned.
    pub fn lets_see(&self, viewer: &Name) -> bool {
        !self.blocked.contains(viewer)
            && match self.visibility {
                Visibility::Public => true,
                Visibility::Contacts => self.contacts.contains(viewer),
                Visibility::Hidden => false,
            }
    }
}
