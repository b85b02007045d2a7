//! RabbitMQ's management API, which is optional: what an operator reads, and users and permissions. Who shows or sets what lives with them.

use std::time::Duration;

use orrery_config::{broker::Broker, secret};
use reqwest::{Certificate, Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

/// How long one answer may take; a busy broker collects its figures for seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Why the management API did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// `broker.management_url` is not set.
    #[error(
        "broker.management_url is not set: name the management plugin's address, such as http://user:password@host:15672"
    )]
    Missing,
    /// It is no address.
    #[error("broker.management_url is no address: write http://user:password@host:15672")]
    Address,
    /// No client can be made.
    #[error(
        "there is no client for the management API: does this system trust any certificate authority (ca-certificates)?"
    )]
    Client(#[source] reqwest::Error),
    /// The file of certificates cannot be read.
    #[error("{0}")]
    Authority(String),
    /// It cannot be reached or does not answer in time.
    #[error(
        "the management API cannot be reached: look at broker.management_url, and whether the plugin is enabled"
    )]
    Unreachable(#[source] reqwest::Error),
    /// It refused.
    #[error("the management API answered {status} to {path}: {reason}")]
    Refused {
        /// Its answer.
        status: StatusCode,
        /// What was asked.
        path: String,
        /// Its words.
        reason: String,
    },
}

/// The management API of one broker, and the virtual host that is ours.
#[derive(Clone)]
pub struct Management {
    client: Client,
    base: Url,
    user: String,
    password: SecretString,
    vhost: String,
}

impl Management {
    /// By the configuration; nothing is asked yet. The virtual host is that of `broker.url`.
    ///
    /// # Errors
    /// When no address is configured, or it is none.
    pub fn new(config: &Broker) -> Result<Self, ManagementError> {
        let url = config.management_url.as_ref().ok_or(ManagementError::Missing)?;
        let mut base = Url::parse(url.expose_secret()).map_err(|_| ManagementError::Address)?;
        let (user, password) = (decoded(base.username()), decoded(base.password().unwrap_or_default()));
        // The address is shown in errors; its secret is not.
        base.set_username("")
            .and_then(|()| base.set_password(None))
            .map_err(|()| ManagementError::Address)?;
        let mut client = Client::builder().timeout(LIMIT);
        if base.scheme() == "http" {
            // A system without certificate authorities is no obstacle then.
            client = client.tls_certs_only([]);
        } else if let Some(file) = &config.ca_file {
            let fault = |fault: String| {
                ManagementError::Authority(format!("broker.ca_file: {} {fault}", file.display()))
            };
            let pem = secret::read_text(file).map_err(fault)?;
            let authorities =
                Certificate::from_pem_bundle(pem.as_bytes()).map_err(ManagementError::Client)?;
            client = client.tls_certs_only(authorities);
        }
        let client = client.build().map_err(ManagementError::Client)?;
        let amqp: lapin::uri::AMQPUri =
            config.url.expose_secret().parse().map_err(|_| ManagementError::Address)?;
        Ok(Self { client, base, user, password: password.into(), vhost: amqp.vhost })
    }

    /// Its user, an administrator.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The virtual host that is ours.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Reads `/api/{parts...}`, each part escaped; `None` when it is not there.
    ///
    /// # Errors
    /// When the API cannot be reached or refuses.
    pub async fn get<T: DeserializeOwned>(&self, parts: &[&str]) -> Result<Option<T>, ManagementError> {
        match self.ask(Method::GET, parts, None).await {
            Ok(answer) => answer.json().await.map(Some).map_err(ManagementError::Unreachable),
            Err(ManagementError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the list `/api/{parts...}`, of each entry only `columns` (dots lead into nested ones).
    ///
    /// # Errors
    /// As `get`.
    pub async fn list<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        columns: &[&str],
    ) -> Result<Vec<T>, ManagementError> {
        let query = format!("columns={}", columns.join(","));
        let answer = self.ask_with(Method::GET, parts, Some(&query), None).await?;
        answer.json().await.map_err(ManagementError::Unreachable)
    }

    /// Makes or replaces `/api/{parts...}`.
    ///
    /// # Errors
    /// As `get`.
    pub async fn put(&self, parts: &[&str], body: &Value) -> Result<(), ManagementError> {
        self.ask(Method::PUT, parts, Some(body)).await.map(drop)
    }

    /// Deletes `/api/{parts...}`; what is not there is deleted already.
    ///
    /// # Errors
    /// As `get`.
    pub async fn delete(&self, parts: &[&str]) -> Result<(), ManagementError> {
        match self.ask(Method::DELETE, parts, None).await {
            Ok(_) | Err(ManagementError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks for something to be done at `/api/{parts...}`.
    ///
    /// # Errors
    /// As `get`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        body: &Value,
    ) -> Result<T, ManagementError> {
        let answer = self.ask(Method::POST, parts, Some(body)).await?;
        answer.json().await.map_err(ManagementError::Unreachable)
    }

    async fn ask(
        &self,
        method: Method,
        parts: &[&str],
        body: Option<&Value>,
    ) -> Result<reqwest::Response, ManagementError> {
        self.ask_with(method, parts, None, body).await
    }

    async fn ask_with(
        &self,
        method: Method,
        parts: &[&str],
        query: Option<&str>,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, ManagementError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ManagementError::Address)?
            .pop_if_empty()
            .push("api")
            .extend(parts);
        url.set_query(query);
        let mut request =
            self.client.request(method, url).basic_auth(&self.user, Some(self.password.expose_secret()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer =
            request.send().await.map_err(|error| ManagementError::Unreachable(error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let reason = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|body| body.get("reason").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or(text);
        Err(ManagementError::Refused { status, path: parts.join("/"), reason })
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
