//! Access tokens of partners (OAuth 2.0, client credentials): short-lived, sealed, opaque to whoever holds one. Client secrets live in
//! `records::keys`; how a request shows a token in `http::bearer`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use orrery_seal::{SealError, Sealer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a token may be used for.
pub mod scope {
    /// Sends events.
    pub const PUBLISH: &str = "events:publish";
    /// Reads events, and has endpoints.
    pub const SUBSCRIBE: &str = "events:subscribe";
    /// Uses the routes below `/admin/partners`; for operators' clients only, on request.
    pub const ADMIN: &str = "partners:admin";
}

/// What tokens are sealed for, so that no other sealed text is one.
const OWNER: &str = "access token";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose it is.
    pub partner: Uuid,
    /// The client secret that it was given for: without it the token is worth nothing.
    pub key: Uuid,
    /// What it may be used for, separated by spaces.
    pub scope: String,
    /// When it ends, in seconds of Unix time.
    pub until: i64,
}

impl Claims {
    /// Whether it has this scope.
    pub fn has(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|own| own == scope)
    }
}

/// A token of these claims.
///
/// # Errors
/// When it cannot be sealed.
pub fn issue(sealer: &Sealer, claims: &Claims) -> Result<String, SealError> {
    let text = serde_json::to_vec(claims).map_err(|_| SealError::Library)?;
    sealer.seal(&text, OWNER)
}

/// When a token that is given now ends.
pub fn until(now: DateTime<Utc>, lifetime: Duration) -> i64 {
    now.timestamp().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// The claims of a token that is ours and has not ended.
pub fn read(sealer: &Sealer, token: &str, now: DateTime<Utc>) -> Option<Claims> {
    let text = sealer.open(token, OWNER).ok()?;
    let claims: Claims = serde_json::from_slice(&text).ok()?;
    (claims.until > now.timestamp()).then_some(claims)
}

/// The scopes that are given: those asked for, or all that need no asking.
///
/// # Errors
/// The first one that is not to be had.
pub fn granted(asked: Option<&str>, can_publish: bool, is_operator: bool) -> Result<String, String> {
    let may = |scope: &str| match scope {
        scope::PUBLISH => can_publish,
        scope::SUBSCRIBE => true,
        scope::ADMIN => is_operator,
        _ => false,
    };
    let asked: Vec<&str> = asked.unwrap_or_default().split_whitespace().collect();
    if asked.is_empty() {
        let given = [scope::PUBLISH, scope::SUBSCRIBE].into_iter().filter(|scope| may(scope));
        return Ok(given.collect::<Vec<_>>().join(" "));
    }
    match asked.iter().find(|scope| !may(scope)) {
        Some(refused) => Err(refused.chars().take(64).collect()),
        None => Ok(asked.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use orrery_config::keys::KeyRing;

    use super::*;

    #[test]
    fn a_token_is_read_until_it_ends_and_by_its_own_key_only() {
        let sealer = |key: u8| Sealer::new(&KeyRing::from_bytes([[key; 32]]), "partners.tokens").unwrap();
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let claims = Claims {
            partner: Uuid::from_u128(1),
            key: Uuid::from_u128(2),
            scope: format!("{} {}", scope::PUBLISH, scope::SUBSCRIBE),
            until: until(now, Duration::from_secs(60)),
        };
        let token = issue(&sealer(1), &claims).unwrap();
        assert_eq!(read(&sealer(1), &token, now), Some(claims.clone()));
        assert!(claims.has(scope::PUBLISH) && !claims.has("events"));
        assert_eq!(read(&sealer(1), &token, now + chrono::Duration::seconds(60)), None);
        assert_eq!(read(&sealer(2), &token, now), None);
        assert_eq!(read(&sealer(1), "v1.00000000.AAAA", now), None);
    }

    #[test]
    fn the_admin_scope_is_given_on_request_to_operators_only() {
        assert_eq!(granted(None, true, true).unwrap(), "events:publish events:subscribe");
        assert_eq!(granted(None, false, false).unwrap(), "events:subscribe");
        assert_eq!(granted(Some("partners:admin"), false, true).unwrap(), "partners:admin");
        assert_eq!(
            granted(Some("events:subscribe partners:admin"), true, false).unwrap_err(),
            "partners:admin"
        );
        assert_eq!(granted(Some("events:publish"), false, false).unwrap_err(), "events:publish");
    }
}
