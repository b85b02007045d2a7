//! A client of the public HTTP API. It follows no redirect and keeps no connection, so that every answer is that of
//! the process that runs now.

mod answer;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, redirect};
use serde_json::{Value, json};

use crate::deadline::eventually;
use crate::person::Person;
use crate::secrets::Secrets;
pub use answer::{Answer, FieldError, Problem};

/// The longest that one request may take.
const LIMIT: Duration = Duration::from_secs(60);

fn connector(from: Option<IpAddr>) -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(LIMIT)
        .local_address(from)
        // Plain HTTP only: reading the system's authorities would cost each client some milliseconds.
        .tls_certs_only([])
        .build()
        .context("building the HTTP client")
}

/// A client, with the tokens of a person who has signed up or logged in; clones share nothing but their connector.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    secrets: Secrets,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

impl Client {
    /// A client without a token for the server at `base`, e.g. `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(base: &str) -> Result<Self> {
        let http = connector(None)?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, http, secrets: Secrets::default(), access_token: None, refresh_token: None })
    }

    /// The same client, calling from this address of the loopback network.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn calling_from(mut self, address: IpAddr) -> Result<Self> {
        self.http = connector(Some(address))?;
        Ok(self)
    }

    /// The same client, adding people and tokens to `secrets` from now on.
    #[must_use]
    pub fn keeping(mut self, secrets: &Secrets) -> Self {
        self.secrets = secrets.clone();
        self
    }

    /// The same client with this access token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.secrets.add(token);
        self.access_token = Some(token.to_owned());
        self
    }

    /// The access token, if it has one.
    #[must_use]
    pub fn access_token(&self) -> Option<&str> {
        self.access_token.as_deref()
    }

    /// The refresh token, if it has one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_deref()
    }

    /// A request to `path` (or to a whole URL), with the access token if there is one.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http://") { path.to_owned() } else { format!("{}{path}", self.base) };
        let request = self.http.request(method, url);
        match &self.access_token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// No answer came; one of any status is none.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = Answer::read(request.send().await.context("sending a request")?).await?;
        for token in ["access_token", "refresh_token", "token"] {
            if let Some(token) = answer.body.get(token).and_then(Value::as_str) {
                self.secrets.add(token);
            }
        }
        Ok(answer)
    }

    /// GET of `path`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST /create`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn sign_up(&self, person: &Person) -> Result<Answer> {
        self.send(self.sign_up_request(person)).await
    }

    /// `POST /create` with an `Idempotency-Key`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn sign_up_with_key(&self, person: &Person, key: &str) -> Result<Answer> {
        self.send(self.sign_up_request(person).header("Idempotency-Key", key)).await
    }

    /// Signs `person` up, expects 201 and gives a client with the tokens.
    ///
    /// # Errors
    /// No answer came, or another.
    pub async fn signed_up(&self, person: &Person) -> Result<Self> {
        self.holding(&self.sign_up(person).await?.expect(201)?)
    }

    /// `POST /login` with the address.
    ///
    /// # Errors
    /// No answer came.
    pub async fn login(&self, person: &Person) -> Result<Answer> {
        self.remember(person);
        let body = json!({"email": person.email, "password": person.password});
        self.send(self.request(Method::POST, "/login").json(&body)).await
    }

    /// Logs `person` in, expects 200 and gives a client with the tokens.
    ///
    /// # Errors
    /// No answer came, or another.
    pub async fn logged_in(&self, person: &Person) -> Result<Self> {
        self.holding(&self.login(person).await?.expect(200)?)
    }

    /// `POST /oauth/token` with a refresh token, as JSON.
    ///
    /// # Errors
    /// No answer came.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Answer> {
        self.secrets.add(refresh_token);
        let body = json!({"grant_type": "refresh_token", "refresh_token": refresh_token});
        self.send(self.request(Method::POST, "/oauth/token").json(&body)).await
    }

    /// `GET /users/@me`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn me(&self) -> Result<Answer> {
        self.get("/users/@me").await
    }

    /// `GET /users/{id}`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn user(&self, id: &str) -> Result<Answer> {
        self.get(&format!("/users/{id}")).await
    }

    /// `PUT /users/@me/avatar` with a whole picture.
    ///
    /// # Errors
    /// No answer came.
    pub async fn put_avatar(&self, picture: impl Into<Bytes>, content_type: &str) -> Result<Answer> {
        let request = self.request(Method::PUT, "/users/@me/avatar");
        self.send(request.header(CONTENT_TYPE, content_type).body(picture.into())).await
    }

    /// `DELETE /users/@me/avatar`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn delete_avatar(&self) -> Result<Answer> {
        self.send(self.request(Method::DELETE, "/users/@me/avatar")).await
    }

    /// The status of an upload, at the `Location` that the 202 named.
    ///
    /// # Errors
    /// No answer came.
    pub async fn upload_status(&self, location: &str) -> Result<Answer> {
        self.get(location).await
    }

    /// Waits until an upload is no longer pending and gives its status document.
    ///
    /// # Errors
    /// It still is after `deadline`; the error names the last answer.
    pub async fn wait_upload(&self, location: &str, deadline: Duration) -> Result<Value> {
        let mut last = None;
        let settled = eventually(deadline, "an upload to be settled", async || {
            let answer = self.upload_status(location).await;
            let settled = answer.as_ref().ok().filter(|answer| answer.status == 200).and_then(|answer| {
                let status = answer.body.get("status")?.as_str()?;
                (status != "pending").then(|| answer.body.clone())
            });
            last = Some(answer);
            settled
        })
        .await;
        settled.with_context(|| format!("the last answer was {last:?}"))
    }

    fn sign_up_request(&self, person: &Person) -> RequestBuilder {
        self.remember(person);
        let Person { id, email, password, locale } = person;
        let body = json!({"id": id, "email": email, "password": password, "locale": locale});
        self.request(Method::POST, "/create").json(&body)
    }

    fn remember(&self, person: &Person) {
        for secret in [&person.id, &person.email, &person.password] {
            self.secrets.add(secret);
        }
    }

    fn holding(&self, answer: &Answer) -> Result<Self> {
        let mut client = self.clone().with_token(answer.text("access_token")?);
        client.refresh_token = Some(answer.text("refresh_token")?.to_owned());
        Ok(client)
    }
}
