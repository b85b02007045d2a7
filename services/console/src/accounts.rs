//! Autha's admin API, asked with the token of an operator's own account. Tokens stay in this process, by the console's session; autha's own audit log has a line for each
//! act, under the operator's name.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::processes::read;

/// How long autha may take: a log-in costs a password's hash.
const LIMIT: Duration = Duration::from_secs(8);
/// The most that is read of an answer.
const LARGEST: usize = 2 * 1024 * 1024;
/// Tokens that are kept.
const KEPT: usize = 64;

/// Somebody's token.
struct CachedToken {
    token: SecretString,
    name: String,
}

/// A client of the admin API.
pub struct Accounts {
    client: Client,
    base: Url,
    held: Mutex<HashMap<Uuid, CachedToken>>,
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
    /// At this address.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let mut client = Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // A system without certificate authorities is no obstacle then.
            client = client.tls_certs_only([]);
        }
        Ok(Self { client: client.build()?, base, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Uuid, CachedToken>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account's name by which this session is logged in there.
    pub fn name(&self, session: Uuid) -> Option<String> {
        self.held().get(&session).map(|held| held.name.clone())
    }

    /// Forgets a session's token.
    pub fn forget(&self, session: Uuid) {
        self.held().remove(&session);
    }

    /// Logs in as an operator.
    ///
    /// # Errors
    /// When autha is away or refuses.
    pub async fn log_in(
        &self,
        session: Uuid,
        account: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<(), AccountError> {
        let field = if account.contains('@') { "email" } else { "id" };
        let mut body = json!({"password": password, "scope": "admin", "totpCode": code});
        if let Some(body) = body.as_object_mut() {
            body.insert(field.to_owned(), json!(account));
        }
        let answer = self.ask(Method::POST, &["login"], None, Some(&body)).await?;
        let token = answer.get("access_token").and_then(Value::as_str);
        let token = token.ok_or_else(|| AccountError::Away("its answer has no token".to_owned()))?;
        let mut held = self.held();
        if held.len() >= KEPT {
            // They are made anew by a log-in; nobody's work is lost.
            held.clear();
        }
        held.insert(session, CachedToken { token: token.into(), name: account.to_owned() });
        Ok(())
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
        let token = self.held().get(&session).map(|held| held.token.clone()).ok_or(AccountError::LogIn)?;
        let path: Vec<_> = std::iter::once("admin").chain(path.iter().copied()).collect();
        let answer = self.ask(method, &path, Some(&token), body).await;
        if matches!(answer, Err(AccountError::Refused(StatusCode::UNAUTHORIZED, _))) {
            self.forget(session);
            return Err(AccountError::LogIn);
        }
        answer
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
