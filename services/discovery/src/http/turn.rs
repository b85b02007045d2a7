//! `GET /peers/@me/turn`: credentials for the TURN server that end by themselves: a user name that begins with the second of their end, and the
//! HMAC-SHA-1 of it under a secret that we share with the server, as coturn's `use-auth-secret` has it.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{AppState, bearer};

/// Makes credentials.
pub struct Turn {
    urls: Vec<String>,
    key: hmac::Key,
    lifetime: Duration,
}

/// As `RTCIceServer` takes them.
#[derive(Debug, Serialize)]
struct Credentials {
    urls: Vec<String>,
    username: String,
    credential: String,
    /// Seconds.
    ttl: u64,
}

impl Turn {
    /// Credentials for the servers at `urls`.
    pub fn new(urls: Vec<String>, secret: &SecretString, lifetime: Duration) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose_secret().as_bytes());
        Self { urls, key, lifetime }
    }

    /// Credentials from `now` on; `nonce` tells one peer's from another's, and not whose they are.
    fn credentials(&self, now: DateTime<Utc>, nonce: &str) -> Credentials {
        let ttl = self.lifetime.as_secs();
        let end = now.timestamp().saturating_add_unsigned(ttl);
        let username = format!("{end}:{nonce}");
        let credential = BASE64.encode(hmac::sign(&self.key, username.as_bytes()));
        Credentials { urls: self.urls.clone(), username, credential, ttl }
    }
}

pub async fn credentials(request: HttpRequest, app: Data<AppState>) -> Result<HttpResponse, Problem> {
    let _peer = bearer::peer(&request, &app).await?;
    let turn =
        app.turn.as_ref().ok_or_else(|| Problem::new(Code::NotFound, "this instance has no TURN server"))?;
    let nonce = hex::encode(app.shared.random.bytes::<8>());
    let credentials = turn.credentials(app.shared.clock.now(), &nonce);
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_the_keyed_digest_of_the_name() {
        let secret = SecretString::from("north");
        let turn = Turn::new(vec!["turn:turn.example:3478".to_owned()], &secret, Duration::from_secs(600));
        let made = turn.credentials(DateTime::from_timestamp(1_700_000_000, 0).unwrap(), "0a");
        assert_eq!((made.username.as_str(), made.ttl), ("1700000600:0a", 600));
        // echo -n 1700000600:0a | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(made.credential, "bD0zq3fX++ozCmti3hQD2ww5lpc=");
    }
}
