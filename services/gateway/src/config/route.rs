//! `[[gateway.routes]]`: what is served beside the services' own tables, and where it leads.

use std::time::Duration;

use actix_web::http::Method;
use orrery_schemas::routes::Rate;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{listener::Role, urls};

/// One configured route: a host, a path with all below it, methods; and exactly one target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configured {
    /// The listeners that serve it, by their roles.
    pub roles: Vec<Role>,
    /// The host; none for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path: with `exact` this one, else all below it too. A segment in braces stands for any one segment.
    pub path: String,
    /// Whether nothing below the path is meant.
    pub exact: bool,
    /// The methods; none for all.
    pub methods: Vec<String>,
    /// Target: a service, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Target: replicas of an application, inside or outside.
    #[serde(deserialize_with = "urls")]
    pub upstreams: Vec<Url>,
    /// Target: objects of the bucket below this prefix; the rest of the path is the rest of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<String>,
    /// The path by which a replica in `upstreams` tells that it is healthy; none: it is when it takes a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Whether the route's path is taken off before the request is passed on.
    pub strip: bool,
    /// Whether upstreams get the client's `Host` instead of their own.
    pub keep_host: bool,
    /// Bytes of a request's body.
    pub body_limit: u64,
    /// How long an upstream may be silent.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Whether answers have no end of their own: server-sent events, long polls.
    pub streaming: bool,
    /// Whether a WebSocket may be opened.
    pub websocket: bool,
    /// The caller's budget that requests are taken from.
    #[serde(with = "rate")]
    pub rate: Rate,
    /// Whether answers are kept as their `Cache-Control` says.
    pub cache: bool,
}

impl Default for Configured {
    fn default() -> Self {
        Self {
            roles: vec![Role::Edge],
            host: None,
            path: "/".to_owned(),
            exact: false,
            methods: Vec::new(),
            service: None,
            upstreams: Vec::new(),
            assets: None,
            health: None,
            strip: false,
            keep_host: true,
            body_limit: 1024 * 1024,
            timeout: Duration::from_secs(30),
            streaming: false,
            websocket: false,
            rate: Rate::Read,
            cache: false,
        }
    }
}

impl Configured {
    /// Adds a line for each fault; `at` is the path of this route in the configuration.
    pub fn validate(&self, at: &str, faults: &mut Vec<String>) {
        let targets = [self.service.is_some(), !self.upstreams.is_empty(), self.assets.is_some()];
        if targets.iter().filter(|given| **given).count() != 1 {
            faults.push(format!("{at}: give exactly one of service, upstreams and assets"));
        }
        if !self.path.starts_with('/') || self.path.contains("//") || self.path.contains(['?', '#', '%', '*'])
        {
            faults.push(format!(
                "{at}.path: must begin with a slash and be a plain path, such as /app or /shops/{{shop}}"
            ));
        }
        if self.path.split('/').any(|segment| matches!(segment, "." | "..")) {
            faults.push(format!("{at}.path: holds a segment '.' or '..'"));
        }
        if self.host.as_ref().is_some_and(|host| host.is_empty() || host.contains([':', '/', ' '])) {
            faults.push(format!("{at}.host: must be a bare name, without a port"));
        }
        for method in &self.methods {
            if Method::from_bytes(method.as_bytes()).is_err() || method.chars().any(char::is_lowercase) {
                faults.push(format!(
                    "{at}.methods: '{method}' is no method; write it in capitals, such as GET"
                ));
            }
        }
        if self.roles.is_empty() {
            faults.push(format!("{at}.roles: name at least one of edge, api, forward, reverse"));
        }
        if self.body_limit == 0 || self.timeout.is_zero() {
            faults.push(format!("{at}: body_limit and timeout must be above zero"));
        }
        if self.health.as_ref().is_some_and(|path| !path.starts_with('/')) {
            faults.push(format!("{at}.health: must begin with a slash"));
        }
        if self.assets.as_ref().is_some_and(|prefix| prefix.contains("..") || prefix.starts_with('/')) {
            faults.push(format!("{at}.assets: must be a prefix of keys, such as assets/site"));
        }
        for url in &self.upstreams {
            super::validate_upstream(&format!("{at}.upstreams"), url, faults);
        }
    }
}

/// Rates by their names.
mod rate {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{Deserialize, Rate};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(crate::limit::name(*rate))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let name = String::deserialize(deserializer)?;
        crate::limit::RATES.into_iter().find(|rate| crate::limit::name(*rate) == name).ok_or_else(|| {
            D::Error::custom("one of read, write, credentials, upload, unlimited is wanted here")
        })
    }
}
