//! Access tokens: ES256 JWTs (RFC 7519, RFC 9068's claims). Where the keys come from lives in `keys`.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ACCESS_LIFETIME;
use crate::key::{KeySet, KeysMissing};

/// Clocks of replicas may differ by so much.
const SKEW_SECONDS: i64 = 60;

/// The claims of an access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// The vanity name, lower-cased.
    pub sub: String,
    iss: String,
    /// Whom it is for.
    pub aud: String,
    /// When it was signed, in seconds.
    pub iat: i64,
    /// When it ends, in seconds.
    pub exp: i64,
    /// Its id.
    pub jti: Uuid,
    /// What it may be used for, separated by spaces.
    pub scope: String,
    /// Its session.
    pub sid: Uuid,
}

/// What a token says of its bearer.
pub struct Grant<'a> {
    /// The vanity name, lower-cased.
    pub sub: &'a str,
    /// The session.
    pub session: Uuid,
    /// What it may be used for.
    pub scope: &'a str,
}

/// Whom tokens are by and for.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The public address.
    pub issuer: String,
    /// The audience.
    pub audience: String,
}

/// A token was refused; the text is for its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT of ours at all.
    #[error("the access token is malformed, was not signed by this instance, or is meant for another")]
    Invalid,
    /// Its key is not here: it may be newer than what was loaded.
    #[error("the access token is malformed, was not signed by this instance, or is meant for another")]
    UnknownKey,
    /// It was valid once.
    #[error("the access token has expired; get a new one from POST /oauth/token")]
    Expired,
    /// No key was loaded yet.
    #[error(transparent)]
    Keys(#[from] KeysMissing),
}

impl Issuer {
    /// Signs a token.
    ///
    /// # Errors
    /// When no signing key was loaded yet, or signing fails.
    pub fn sign(
        &self,
        keys: &KeySet,
        grant: &Grant<'_>,
        jti: Uuid,
        now: DateTime<Utc>,
    ) -> Result<String, TokenError> {
        let key = keys.signing()?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key.kid.clone());
        let iat = now.timestamp();
        let claims = Claims {
            sub: grant.sub.to_owned(),
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            iat,
            exp: iat.saturating_add_unsigned(ACCESS_LIFETIME.as_secs()),
            jti,
            scope: grant.scope.to_owned(),
            sid: grant.session,
        };
        encode(&header, &claims, &key.encoding).map_err(|_| TokenError::Invalid)
    }

    /// The claims of a valid token.
    ///
    /// # Errors
    /// When it is not valid now.
    pub fn verify(&self, keys: &KeySet, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenError> {
        // Before the keys are there no token can be told from a forged one: its bearer must not be sent away.
        if !keys.is_loaded() {
            return Err(KeysMissing.into());
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.as_deref().ok_or(TokenError::Invalid)?;
        let key = keys.by_id(kid).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Expiry is business time, so our clock decides.
        validation.validate_exp = false;
        let claims =
            decode::<Claims>(token, &key.decoding, &validation).map_err(|_| TokenError::Invalid)?.claims;
        if claims.exp.saturating_add(SKEW_SECONDS) <= now.timestamp() {
            return Err(TokenError::Expired);
        }
        if claims.iat.saturating_sub(SKEW_SECONDS) > now.timestamp() {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_refused_before_the_keys_are_there() {
        let issuer = Issuer { issuer: "https://id.example".to_owned(), audience: "app".to_owned() };
        let verified = issuer.verify(&KeySet::default(), "a.b.c", DateTime::UNIX_EPOCH);
        assert_eq!(verified.err(), Some(TokenError::Keys(KeysMissing)));
    }
}
