//! What `./dev test` tells the tests about this machine: where PostgreSQL, RabbitMQ and the binary are.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use reqwest::Url;

/// A URL in `TEST_DATABASE_URL` or its like.
///
/// # Errors
/// Says what to do when it is missing or no URL.
pub fn url(variable: &str) -> Result<Url> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty()).with_context(|| {
        format!("{variable} is not set: run ./dev test, which starts PostgreSQL and RabbitMQ and sets it")
    })?;
    Url::parse(&text).with_context(|| format!("{variable} is no URL"))
}

/// The same where it may be missing.
///
/// # Errors
/// It is there but no URL.
pub fn optional_url(variable: &str) -> Result<Option<Url>> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => url(variable).map(Some),
        _ => Ok(None),
    }
}

/// The servers on which a world has its database and its virtual host.
#[derive(Clone, Debug)]
pub struct Servers {
    /// PostgreSQL, as a superuser.
    pub database: Url,
    /// RabbitMQ, as a user who may do everything.
    pub broker: Url,
    /// The management API that goes with it; without it virtual hosts are made by `rabbitmqctl`.
    pub management: Option<Url>,
}

impl Servers {
    /// Those of `./dev test`, which all tests share.
    ///
    /// # Errors
    /// `TEST_DATABASE_URL` or `TEST_AMQP_URL` is missing.
    pub fn shared() -> Result<Self> {
        Ok(Self {
            database: url("TEST_DATABASE_URL")?,
            broker: url("TEST_AMQP_URL")?,
            management: optional_url("TEST_AMQP_MANAGEMENT_URL")?,
        })
    }
}

/// The binary under test: `ORRERY_BIN`, else the debug build of this workspace.
///
/// # Errors
/// There is no such file.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os("ORRERY_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/debug/orrery"),
        PathBuf::from,
    );
    let Ok(path) = path.canonicalize() else {
        bail!("there is no {}: run ./dev test, or cargo build and set ORRERY_BIN", path.display())
    };
    Ok(path)
}

/// The address that a URL names, IPv4 where there is one, with `default_port` where the URL has none.
///
/// # Errors
/// The URL has no host, or it does not resolve.
pub async fn address(url: &Url, default_port: u16) -> Result<SocketAddr> {
    let host = url.host_str().context("a URL without a host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(default_port);
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await.with_context(|| format!("resolving {host}"))?.collect();
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().with_context(|| format!("{host} resolves to nothing"))
}

/// The same URL at another address: the way through a proxy.
///
/// # Errors
/// The URL is of a kind that has no host.
pub fn through(url: &Url, proxy: SocketAddr) -> Result<Url> {
    let mut url = url.clone();
    url.set_host(Some(&proxy.ip().to_string())).context("changing a URL's host")?;
    if url.set_port(Some(proxy.port())).is_err() {
        bail!("a URL without a port")
    }
    Ok(url)
}
