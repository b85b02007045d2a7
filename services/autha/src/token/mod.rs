//! Tokens: access tokens and their signing keys, refresh tokens and their families. Passwords live in `password`.

pub mod access;
pub mod keys;
pub mod refresh;

use serde::Serialize;

/// How long an access token is valid, in seconds.
pub const ACCESS_LIFETIME_SECONDS: i64 = 900;

/// What sign-up, login and refresh answer.
#[derive(Clone, Serialize)]
pub struct TokenSet {
    token_type: &'static str,
    /// What upstream 0.5.2 calls the access token.
    token: String,
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

impl TokenSet {
    /// Both tokens.
    pub fn new(access_token: String, refresh_token: String) -> Self {
        Self {
            token_type: "Bearer",
            token: access_token.clone(),
            access_token,
            refresh_token,
            expires_in: ACCESS_LIFETIME_SECONDS,
        }
    }
}
