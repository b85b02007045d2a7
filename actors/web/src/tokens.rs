//! Access tokens as those verify them who are not autha: by the keys that autha publishes (RFC 7517), kept for a while and asked for again when
//! a token names another one. How the keys are fetched is its caller's matter.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::http::header::{self, HeaderMap};
use arc_swap::{ArcSwap, ArcSwapOption};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use orrery_supervise::clock::Clock;
use serde::Deserialize;
use tokio::sync::Mutex;
use uuid::Uuid;

/// After the keys came, an unknown one is no reason to ask again for so long.
const PAUSE: Duration = Duration::from_secs(10);
/// The same after they did not come.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// More keys than this are no honest set.
const MOST_KEYS: usize = 64;

/// What a token has to say, and how long keys are believed.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Who signed it; empty for whoever holds one of the keys.
    pub issuer: String,
    /// Whom it is for; empty for anybody.
    pub audience: String,
    /// Whether it must name its key. One that does not is tried against each.
    pub names_its_key: bool,
    /// By how much the clocks of who signs and who verifies may differ.
    pub skew: Duration,
    /// How long keys are used before they are asked for again.
    pub fresh: Duration,
    /// How long they are believed while no others can be had.
    pub stale: Duration,
}

/// What is read of a token.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    /// Whose it is: the vanity name.
    pub sub: String,
    /// What it may be used for, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// When it ends, in seconds.
    pub exp: i64,
    /// Its session.
    #[serde(default)]
    pub sid: Option<Uuid>,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is malformed, expired, or was not signed by the keys that are published.
    #[error("the access token is not valid")]
    Invalid,
    /// The keys cannot be had, so that nobody can tell.
    #[error("the keys cannot be read right now")]
    Unavailable,
}

/// Why a token cannot be verified by the keys that are here.
enum Unverified {
    Invalid,
    UnknownKey,
}

struct Keys {
    by_id: HashMap<String, DecodingKey>,
    /// All of them, for tokens that name none.
    all: Vec<DecodingKey>,
    read_at: Instant,
}

/// What verifies tokens, shared by the workers.
#[derive(Clone)]
pub struct Verifier {
    expected: Arc<Expected>,
    keys: Arc<ArcSwapOption<Keys>>,
    /// When the keys were last asked for, and whether they came.
    asked: Arc<ArcSwap<Option<(Instant, bool)>>>,
    asking: Arc<Mutex<()>>,
    clock: Clock,
}

impl Verifier {
    /// Verifies by what is expected.
    pub fn new(expected: Expected, clock: Clock) -> Self {
        let asked = Arc::new(ArcSwap::from_pointee(None));
        Self { expected: Arc::new(expected), keys: Arc::default(), asked, asking: Arc::default(), clock }
    }

    /// The claims of a valid token. `fetch` brings the JWKS.
    ///
    /// # Errors
    /// When it is not valid, or nobody can tell.
    pub async fn verify<F>(&self, token: &str, fetch: impl Fn() -> F) -> Result<Claims, TokenFault>
    where
        F: Future<Output = Option<Vec<u8>>>,
    {
        if !self.has_keys_younger_than(self.expected.fresh) {
            // Whether they came or the old ones still do shows below.
            let _came = self.ask(&fetch).await;
        }
        match self.check(token) {
            Err(Unverified::UnknownKey) => {
                let came = self.ask(&fetch).await;
                let checked = self.check(token);
                checked.map_err(|_| if came { TokenFault::Invalid } else { TokenFault::Unavailable })
            }
            checked => checked.map_err(|_| TokenFault::Invalid),
        }
    }

    fn has_keys_younger_than(&self, age: Duration) -> bool {
        self.keys.load().as_ref().is_some_and(|keys| keys.read_at.elapsed() < age)
    }

    fn check(&self, token: &str) -> Result<Claims, Unverified> {
        let head = decode_header(token).map_err(|_| Unverified::Invalid)?;
        let keys = self.keys.load();
        let keys = keys
            .as_ref()
            .filter(|keys| keys.read_at.elapsed() < self.expected.stale)
            .ok_or(Unverified::UnknownKey)?;
        let claims = match head.kid {
            Some(id) => self.decode(token, keys.by_id.get(&id).ok_or(Unverified::UnknownKey)?),
            None if self.expected.names_its_key => None,
            None => {
                Some(keys.all.iter().find_map(|key| self.decode(token, key)).ok_or(Unverified::UnknownKey)?)
            }
        };
        let claims = claims.ok_or(Unverified::Invalid)?;
        let skew = i64::try_from(self.expected.skew.as_secs()).unwrap_or(i64::MAX);
        if claims.exp.saturating_add(skew) <= self.clock.now().timestamp() {
            return Err(Unverified::Invalid);
        }
        Ok(claims)
    }

    fn decode(&self, token: &str, key: &DecodingKey) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        // The keys are autha's and nobody else's: what they signed is its own.
        if !self.expected.issuer.is_empty() {
            validation.set_issuer(&[&self.expected.issuer]);
        }
        if self.expected.audience.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&[&self.expected.audience]);
        }
        // By our clock, above.
        validation.validate_exp = false;
        Some(decode::<Claims>(token, key, &validation).ok()?.claims)
    }

    /// Asks for the keys, at most once in a while; whether the last answer was one.
    async fn ask<F>(&self, fetch: &impl Fn() -> F) -> bool
    where
        F: Future<Output = Option<Vec<u8>>>,
    {
        // One asks, the others find what it brought.
        let _turn = self.asking.lock().await;
        if let Some((at, came)) = **self.asked.load()
            && at.elapsed() < if came { PAUSE.min(self.expected.fresh) } else { FAILED_PAUSE }
        {
            return came;
        }
        let keys = fetch().await.and_then(|document| read(&document));
        let came = keys.is_some();
        if let Some(keys) = keys {
            self.keys.store(Some(Arc::new(keys)));
        }
        self.asked.store(Arc::new(Some((Instant::now(), came))));
        came
    }
}

fn read(document: &[u8]) -> Option<Keys> {
    let set: JwkSet = serde_json::from_slice(document).ok()?;
    let (mut by_id, mut all) = (HashMap::new(), Vec::new());
    for key in set.keys.iter().take(MOST_KEYS) {
        let Ok(decoding) = DecodingKey::from_jwk(key) else { continue };
        if let Some(id) = &key.common.key_id {
            by_id.insert(id.clone(), decoding.clone());
        }
        all.push(decoding);
    }
    Some(Keys { by_id, all, read_at: Instant::now() })
}

/// The token of an `Authorization: Bearer ...` (RFC 6750).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
}
