//! `/auth/verify`: whether a request's access token is valid, for proxies that ask before they pass a request on (Caddy's and Traefik's
//! forward authentication, nginx' `auth_request`). Tokens are verified here, by the keys that autha publishes (`orrery_web::tokens`).

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
};
use orrery_schemas::problems::Code;
use orrery_supervise::clock::Clock;
use orrery_web::{
    problem::Problem,
    tokens::{self, Expected, TokenFault},
};

use crate::config::limits::Verify;

/// How long the keys are believed.
const LIFETIME: Duration = Duration::from_secs(300);
/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(60);

const SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-auth-scopes");

/// What verifies tokens, shared by the workers.
#[derive(Clone)]
pub struct Verifier(tokens::Verifier);

impl Verifier {
    /// Verifies tokens of this issuer for this audience.
    pub fn new(Verify { issuer, audience, .. }: Verify, clock: Clock) -> Self {
        let expected =
            Expected { issuer, audience, names_its_key: true, skew: SKEW, fresh: LIFETIME, stale: LIFETIME };
        Self(tokens::Verifier::new(expected, clock))
    }

    /// The answer to a proxy. `fetch` brings the JWKS.
    ///
    /// # Errors
    /// 401 without a valid token, 503 while the keys cannot be had.
    pub async fn answer<F>(
        &self,
        request: &HttpRequest,
        fetch: impl Fn() -> F,
    ) -> Result<HttpResponse, Problem>
    where
        F: Future<Output = Option<Vec<u8>>>,
    {
        let token = tokens::bearer(request.headers()).ok_or_else(|| {
            Problem::new(Code::InvalidToken, "send the access token as 'Authorization: Bearer ...'")
        })?;
        let claims = self.0.verify(token, fetch).await.map_err(|fault| match fault {
            TokenFault::Invalid => Problem::new(Code::InvalidToken, "the access token is not valid"),
            TokenFault::Unavailable => {
                Problem::new(Code::Unavailable, "the keys cannot be read right now; try again in a second")
            }
        })?;
        let mut response = HttpResponse::NoContent();
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        for (name, value) in [(SUBJECT, claims.sub), (SCOPES, claims.scope)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.insert_header((name, value));
            }
        }
        Ok(response.finish())
    }
}
