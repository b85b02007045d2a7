//! `[[gateway.listeners]]`: where the gateway listens, in which role, and what it believes of who connects.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Clients come in here: the services' routes and the configured ones.
    #[default]
    Edge,
    /// Applications reach the services here: the services' routes and the configured ones of this role.
    Api,
    /// Leads to the reverse proxies of service providers: configured routes alone.
    Forward,
    /// Stands before the frontend and backend of one service provider: configured routes alone.
    Reverse,
}

impl Role {
    /// Whether the services' own tables are served.
    pub const fn serves_services(self) -> bool {
        matches!(self, Self::Edge | Self::Api)
    }

    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Api => "api",
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        }
    }
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// What it is for.
    pub role: Role,
    /// Address and port; or `socket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The path of a Unix socket; whoever connects to it is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Networks of proxies before this listener: their `Forwarded`, `X-Forwarded-*` and PROXY headers are believed.
    pub trusted: Vec<IpNet>,
    /// Whether connections from `trusted` begin with a PROXY protocol header (v1 or v2).
    pub proxy_protocol: bool,
    /// Paths at which this listener tells whether the process is ready, such as `/healthcheck`.
    pub health: Vec<String>,
    /// Certificates; without them the listener speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificates from files, chosen by the names in them; the first is used where no name fits.
    pub certificates: Vec<Certificate>,
    /// Certificates from a certificate authority by ACME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
    /// `max-age` of Strict-Transport-Security; zero sends none.
    #[serde(with = "humantime_serde")]
    pub hsts: Duration,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificates: Vec::new(), acme: None, hsts: Duration::from_secs(180 * 24 * 3600) }
    }
}

/// A certificate and its key, as PEM files; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain, the leaf first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Certificates by ACME (RFC 8555), proven by HTTP-01: port 80 of the names has to lead to a plain listener of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// The authority's directory.
    pub directory: url::Url,
    /// A PEM file with the authority's own root, where it is none of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The names, on one certificate.
    pub domains: Vec<String>,
    /// How the authority reaches the operator, such as `mailto:ops@example.org`.
    #[serde(default)]
    pub contact: Vec<String>,
    /// A folder in which account, key and certificate are kept.
    pub folder: PathBuf,
}

impl Listener {
    /// Adds a line for each fault; `at` is the path of this listener in the configuration.
    pub fn validate(&self, at: &str, faults: &mut Vec<String>) {
        if self.address.is_some() == self.socket.is_some() {
            faults.push(format!("{at}: give either address or socket"));
        }
        if self.proxy_protocol && self.trusted.is_empty() {
            faults.push(format!("{at}.proxy_protocol: name the networks of the proxies in {at}.trusted"));
        }
        for path in self.health.iter().filter(|path| !path.starts_with('/')) {
            faults.push(format!("{at}.health: '{path}' must begin with a slash"));
        }
        if let Some(tls) = &self.tls {
            if tls.certificates.is_empty() && tls.acme.is_none() {
                faults.push(format!("{at}.tls: give certificates or acme"));
            }
            if tls.acme.as_ref().is_some_and(|acme| acme.domains.is_empty()) {
                faults.push(format!("{at}.tls.acme.domains: name at least one"));
            }
        }
    }
}
