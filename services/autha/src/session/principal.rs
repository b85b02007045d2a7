//! Who is asking: one value, taken in one place (`http::bearer`) from an access token and its session.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::account::lookup::Account;

/// What a token may be used for.
pub mod scope {
    /// Reads one's own account.
    pub const READ_ACCOUNT: &str = "read:account";
    /// Changes one's own account.
    pub const WRITE_ACCOUNT: &str = "write:account";
    /// Adds and removes one's public keys.
    pub const WRITE_PUBLIC_KEYS: &str = "write:public_keys";
    /// Uses the routes below `/admin`; for operators only, on request.
    pub const ADMIN: &str = "admin";
    /// What a login gives.
    pub const DEFAULT: &str = "read:account write:account write:public_keys";
}

/// A request's identity.
#[derive(Debug)]
pub struct Principal {
    /// Whose token it is.
    pub account: Account,
    /// The session that the token was issued in.
    pub session: Uuid,
    /// What the token may be used for.
    pub scopes: Scopes,
    /// How the person was authenticated (RFC 8176).
    pub methods: Vec<String>,
    /// When the person was authenticated.
    pub authenticated_at: DateTime<Utc>,
}

/// Scopes, separated by spaces (RFC 6749, 3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(pub String);

impl Scopes {
    /// Whether this scope is one of them; the empty one is everybody's.
    pub fn contain(&self, scope: &str) -> bool {
        scope.is_empty() || self.0.split(' ').any(|own| own == scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_whole_word() {
        let scopes = Scopes(scope::DEFAULT.to_owned());
        assert!(scopes.contain(scope::READ_ACCOUNT) && scopes.contain(""));
        assert!(!scopes.contain("read") && !scopes.contain(scope::ADMIN));
    }
}
