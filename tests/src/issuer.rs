//! An issuer of access tokens of a test's own: keys, a listener that publishes them, and tokens with whatever claims.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The `iss` of its tokens.
pub const ISSUER: &str = "https://id.example";
/// Their `aud`.
pub const AUDIENCE: &str = "turms";

/// A signing key (ES256) and its id.
#[derive(Debug)]
pub struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// The library makes none.
    pub fn new(id: &'static str) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().context("a key")?;
        Ok(Self { id, pair })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// Its public half (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> Value {
        // A point that is not compressed: a byte, then both coordinates.
        let (x, y) = self.pair.public_key().as_ref().get(1..65).unwrap_or_default().split_at(32);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    /// A token with these claims that names this key.
    ///
    /// # Errors
    /// The library does not sign.
    pub fn sign(&self, kid: Option<&str>, claims: &Value) -> Result<String> {
        let head = match kid {
            Some(kid) => json!({"alg": "ES256", "typ": "JWT", "kid": kid}),
            None => json!({"alg": "ES256", "typ": "JWT"}),
        };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&head), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).ok().context("signing")?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// A token of this subject for so many seconds from now.
    ///
    /// # Errors
    /// As [`Key::sign`].
    pub fn token(&self, subject: &str, seconds: i64) -> Result<String> {
        self.sign(Some(self.id), &claims(subject, seconds))
    }
}

/// The claims of a token of this subject, for so many seconds from now.
#[must_use]
pub fn claims(subject: &str, seconds: i64) -> Value {
    #[expect(clippy::disallowed_methods, reason = "the machine's time is what services compare it with")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_secs()).unwrap_or_default();
    json!({"sub": subject, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + seconds})
}

/// Publishes keys over HTTP, and can be away.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    keys: Arc<Mutex<Option<Value>>>,
    refusals: Arc<AtomicUsize>,
    listener: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Issuer {
    /// Starts it; it is away until it publishes something.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let keys = Arc::new(Mutex::new(None::<Value>));
        let refusals = Arc::new(AtomicUsize::new(0));
        let (told, refused) = (Arc::clone(&keys), Arc::clone(&refusals));
        let listener = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let keys = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut head = [0; 4096];
                let answer = match keys.map(|keys| keys.to_string()) {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    ),
                    None => refusal(&refused),
                };
                // Who goes away meanwhile gets nothing, and asks again.
                if connection.read(&mut head).await.is_ok() {
                    drop(connection.write_all(answer.as_bytes()).await);
                }
            }
        });
        Ok(Self { url, keys, refusals, listener })
    }

    /// Where the keys are.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&Key]) {
        let set = json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()});
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
    }

    /// How often it was asked while it was away.
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.refusals.load(Ordering::SeqCst)
    }

    /// Answers 503 from now on.
    pub fn go_away(&self) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn refusal(count: &AtomicUsize) -> String {
    count.fetch_add(1, Ordering::SeqCst);
    "HTTP/1.1 503 Away\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
}
