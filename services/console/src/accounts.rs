//! Autha's admin API, asked with the tokens of an operator's own account. Tokens stay in this process, by the console's session, and are renewed when they are over; autha's
//! own audit log has a line for each act, under the operator's name.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;
use url::Url;
use uuid::Uuid;

use crate::{client::client, processes::read};

/// How long autha may take: a log-in costs a password's hash.
const LIMIT: Duration = Duration::from_secs(8);
/// The most that is read of an answer.
const LARGEST: usize = 2 * 1024 * 1024;
/// Log-ins that are kept.
const KEPT: usize = 64;

/// Somebody's log-in.
struct Held {
    access: SecretString,
    refresh: SecretString,
    name: String,
    /// When autha last said that they are an operator.
    seen: Instant,
}

/// What a log-in and a renewal answer.
#[derive(Deserialize)]
struct Tokens {
    access_token: SecretString,
    refresh_token: SecretString,
}

/// A client of the admin API.
pub struct Accounts {
    client: Client,
    base: Url,
    /// How long autha's word that somebody is an operator is believed.
    recheck_every: Duration,
    held: Mutex<HashMap<Uuid, Held>>,
}

/// An account as the admin API shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Its internal id.
    pub id: String,
    /// Its name.
    pub vanity: String,
    /// The name as it is shown.
    #[serde(default)]
    pub username: String,
    /// The language of its mails.
    #[serde(default)]
    pub locale: String,
    /// When it came to be.
    pub created_at: String,
    /// When it was suspended.
    pub suspended_at: Option<String>,
    /// When it is gone.
    pub purge_at: Option<String>,
    /// When the address was verified.
    pub email_verified_at: Option<String>,
    /// The address; only of an account that is looked at.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether TOTP is set up.
    #[serde(default)]
    pub totp: Option<bool>,
    /// Sessions that have not ended.
    #[serde(default)]
    pub sessions: Option<i64>,
}

/// Autha did not do it.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Nobody is logged in there, or the token is over.
    #[error("log in with your own account")]
    LogIn,
    /// It cannot be reached.
    #[error("autha cannot be reached at console.autha: {0}")]
    Away(String),
    /// It refused, in its words.
    #[error("{1}")]
    Refused(StatusCode, String),
}

impl Accounts {
    /// At this address; its word that somebody is an operator is believed for `recheck_every`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url, recheck_every: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client([&base], LIMIT)?, base, recheck_every, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account's name by which this session is logged in there.
    pub fn name(&self, session: Uuid) -> Option<String> {
        self.held().get(&session).map(|held| held.name.clone())
    }

    /// Ends a session's log-in, here and at autha.
    pub async fn log_out(&self, session: Uuid) {
        let Some(Held { refresh, .. }) = self.held().remove(&session) else { return };
        let body = json!({"token": refresh.expose_secret()});
        if let Err(error) = self.ask(Method::POST, &["oauth", "revoke"], None, Some(&body)).await {
            warn!(%error, "autha was not told of a log-out; its session ends by itself");
        }
    }

    /// Forgets a session's tokens.
    fn forget(&self, session: Uuid) {
        self.held().remove(&session);
    }

    /// Logs in as an operator; returns the account's name.
    ///
    /// # Errors
    /// When autha is away or refuses.
    pub async fn log_in(
        &self,
        session: Uuid,
        account: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<String, AccountError> {
        let field = if account.contains('@') { "email" } else { "id" };
        let mut body = json!({"password": password, "scope": "admin", "totpCode": code});
        if let Some(body) = body.as_object_mut() {
            body.insert(field.to_owned(), json!(account));
        }
        let Tokens { access_token, refresh_token } = self.tokens(&["login"], &body).await?;
        let shown = self.ask(Method::GET, &["admin", "accounts", account], Some(&access_token), None).await?;
        let name = shown.get("vanity").and_then(Value::as_str);
        let name = name.ok_or_else(|| AccountError::Away("its answer has no name".to_owned()))?.to_owned();
        let mut held = self.held();
        let oldest = held.iter().min_by_key(|(_, held)| held.seen).map(|(session, _)| *session);
        if let Some(oldest) = oldest.filter(|_| held.len() >= KEPT) {
            held.remove(&oldest);
        }
        let seen = Instant::now();
        held.insert(session, Held { access: access_token, refresh: refresh_token, name: name.clone(), seen });
        Ok(name)
    }

    /// Whether this session's account is still an operator's, as far as autha says: where it is away, what it said last holds.
    pub async fn is_operator(&self, session: Uuid) -> bool {
        let Some((name, seen)) = self.held().get(&session).map(|held| (held.name.clone(), held.seen)) else {
            return false;
        };
        if seen.elapsed() < self.recheck_every {
            return true;
        }
        match self.admin(session, Method::GET, &["accounts", &name], None).await {
            Ok(_) => {
                if let Some(held) = self.held().get_mut(&session) {
                    held.seen = Instant::now();
                }
                true
            }
            Err(AccountError::Away(_)) => true,
            Err(AccountError::Refused(status, _)) if is_passing(status) => true,
            Err(AccountError::LogIn | AccountError::Refused(..)) => {
                self.forget(session);
                false
            }
        }
    }

    /// Asks the admin API as the session's operator.
    ///
    /// # Errors
    /// When nobody is logged in, autha is away or refuses.
    pub async fn admin(
        &self,
        session: Uuid,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Value, AccountError> {
        let path: Vec<_> = std::iter::once("admin").chain(path.iter().copied()).collect();
        let token = self.token(session)?;
        let answer = self.ask(method.clone(), &path, Some(&token), body).await;
        if !matches!(answer, Err(AccountError::Refused(StatusCode::UNAUTHORIZED, _))) {
            return answer;
        }
        let token = self.renew(session).await?;
        self.ask(method, &path, Some(&token), body).await
    }

    fn token(&self, session: Uuid) -> Result<SecretString, AccountError> {
        self.held().get(&session).map(|held| held.access.clone()).ok_or(AccountError::LogIn)
    }

    /// Exchanges a session's tokens; returns the new access token. Two at once get the same one (`/oauth/token`).
    async fn renew(&self, session: Uuid) -> Result<SecretString, AccountError> {
        let refresh =
            self.held().get(&session).map(|held| held.refresh.clone()).ok_or(AccountError::LogIn)?;
        let body = json!({"grant_type": "refresh_token", "refresh_token": refresh.expose_secret()});
        match self.tokens(&["oauth", "token"], &body).await {
            Ok(Tokens { access_token, refresh_token }) => {
                if let Some(held) = self.held().get_mut(&session) {
                    held.access = access_token.clone();
                    held.refresh = refresh_token;
                }
                Ok(access_token)
            }
            Err(AccountError::Refused(status, _)) if !is_passing(status) => {
                self.forget(session);
                Err(AccountError::LogIn)
            }
            Err(error) => Err(error),
        }
    }

    async fn tokens(&self, path: &[&str], body: &Value) -> Result<Tokens, AccountError> {
        let answer = self.ask(Method::POST, path, None, Some(body)).await?;
        serde_json::from_value(answer).map_err(|_| AccountError::Away("its answer has no tokens".to_owned()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<Value, AccountError> {
        let away = |error: reqwest::Error| AccountError::Away(error.without_url().to_string());
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| AccountError::Away("its address cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let bytes = read(answer, LARGEST).await.map_err(AccountError::Away)?;
        let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(document);
        }
        let detail = document.get("detail").and_then(Value::as_str).unwrap_or("autha refused").to_owned();
        Err(AccountError::Refused(status, detail))
    }
}

/// Whether a refusal says nothing of who asked.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
