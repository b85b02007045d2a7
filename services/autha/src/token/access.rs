//! Access tokens: ES256 JWTs (RFC 7519, RFC 9068's claims). Where the keys come from lives in `keys`.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ACCESS_LIFETIME_SECONDS,
    keys::{KeySet, KeysMissing},
};

const SCOPE: &str = "read:account write:account write:public_keys";
/// Clocks of replicas may differ by so much.
const SKEW_SECONDS: i64 = 60;

/// The claims of an access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// The vanity name, lower-cased.
    pub sub: String,
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: Uuid,
    scope: String,
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
    /// It was valid once.
    #[error("the access token has expired; get a new one from POST /oauth/token")]
    Expired,
    /// No key was loaded yet.
    #[error(transparent)]
    Keys(#[from] KeysMissing),
}

impl Issuer {
    /// Signs a token for `sub`.
    ///
    /// # Errors
    /// When no signing key was loaded yet, or signing fails.
    pub fn sign(
        &self,
        keys: &KeySet,
        sub: &str,
        jti: Uuid,
        now: DateTime<Utc>,
    ) -> Result<String, TokenError> {
        let key = keys.signing(now)?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key.kid.clone());
        let iat = now.timestamp();
        let claims = Claims {
            sub: sub.to_owned(),
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            iat,
            exp: iat + ACCESS_LIFETIME_SECONDS,
            jti,
            scope: SCOPE.to_owned(),
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
        let key = header.kid.as_deref().and_then(|kid| keys.by_id(kid)).ok_or(TokenError::Invalid)?;
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
