//! Who is asking: an access token of autha's, verified by the keys that it publishes, in a session that has not ended as far as is known here.

use std::time::Duration;

use actix_web::HttpRequest;
use orrery_schemas::problems::Code;
use orrery_supervise::clock::Clock;
use orrery_web::{
    problem::Problem,
    tokens::{self, Claims, Expected, TokenFault, Verifier},
};
use tokio::runtime::Handle;
use tracing::warn;
use url::Url;

use super::{AppState, fault};
use crate::{config::Config, name::Name};

/// How long autha may take to give its keys.
const LIMIT: Duration = Duration::from_secs(3);
/// The largest set of keys that is read.
const LARGEST_BYTES: usize = 256 * 1024;

/// What verifies tokens, and where the keys come from.
#[derive(Clone)]
pub struct Keys {
    verifier: Verifier,
    http: reqwest::Client,
    url: Url,
    main: Handle,
}

impl Keys {
    /// Verifies by what the settings say.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(config: &Config, clock: Clock, main: Handle) -> Result<Self, reqwest::Error> {
        let expected = Expected {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            names_its_key: false,
            skew: Duration::ZERO,
            fresh: config.keys_fresh,
            stale: config.keys_stale,
        };
        let http = reqwest::Client::builder()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .build()?;
        Ok(Self { verifier: Verifier::new(expected, clock), http, url: config.jwks_url.clone(), main })
    }

    /// The claims of a valid token.
    ///
    /// # Errors
    /// When it is not valid, or nobody can tell.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenFault> {
        self.verifier.verify(token, || self.fetch()).await
    }

    /// Whether autha gives its keys, for `orrery check`.
    pub async fn probe(&self) -> bool {
        self.fetch().await.is_some()
    }

    /// On the main runtime, which owns every client.
    async fn fetch(&self) -> Option<Vec<u8>> {
        let (http, url) = (self.http.clone(), self.url.clone());
        let fetched = self.main.spawn(async move {
            let mut answer = http.get(url).send().await?.error_for_status()?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                body.extend_from_slice(&chunk);
                if body.len() > LARGEST_BYTES {
                    return Ok(None);
                }
            }
            Ok::<_, reqwest::Error>(Some(body))
        });
        match fetched.await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                warn!(error = %error.without_url(), "the keys of access tokens cannot be fetched");
                None
            }
            Err(_) => None,
        }
    }
}

/// The peer of a request.
///
/// # Errors
/// 401 without a valid token, 503 while nobody can tell.
pub async fn peer(request: &HttpRequest, app: &AppState) -> Result<Name, Problem> {
    let token = tokens::bearer(request.headers()).ok_or_else(|| {
        let detail = "send the access token as 'Authorization: Bearer ...'";
        Problem::new(Code::InvalidToken, detail).challenge("Bearer")
    })?;
    let invalid = || Problem::new(Code::InvalidToken, "the access token is not valid; get a new one");
    let claims = app.keys.verify(token).await.map_err(|fault| match fault {
        TokenFault::Invalid => invalid(),
        TokenFault::Unavailable => fault::keys_unavailable(),
    })?;
    let name = Name::of_subject(&claims.sub).map_err(|_| invalid())?;
    if let Some(session) = claims.sid {
        let has_ended = app.shared.store.has_ended(session).await;
        if has_ended.map_err(|error| fault::store(&error))? {
            return Err(invalid());
        }
    }
    Ok(name)
}
