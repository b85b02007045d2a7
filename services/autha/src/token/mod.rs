//! Tokens: access tokens, refresh tokens under their sessions. Signing keys live in `key`, passwords in `password`.

pub mod access;
pub mod refresh;

use std::time::Duration;

use serde::Serialize;

/// How long an access token is valid.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(900);

/// What sign-up, login and refresh answer.
#[derive(Clone, Serialize)]
pub struct TokenSet {
    token_type: &'static str,
    /// What upstream 0.5.2 calls the access token.
    token: String,
    access_token: String,
    refresh_token: String,
    expires_in: u64,
    scope: String,
}

impl TokenSet {
    /// Both tokens.
    pub fn new(access_token: String, refresh_token: String, scope: String) -> Self {
        Self {
            token_type: "Bearer",
            token: access_token.clone(),
            access_token,
            refresh_token,
            expires_in: ACCESS_LIFETIME.as_secs(),
            scope,
        }
    }
}
