//! `[gateway.rates]`, `[gateway.cors]`, `[gateway.cache]` and `[gateway.verify]`: what callers may do, who may call from a browser, what is
//! kept, whose tokens are known.

use std::time::Duration;

use orrery_schemas::routes::Rate;
use serde::{Deserialize, Serialize};
use url::Url;

/// What one caller may ask, by class. A caller is an address, or a network of them. Where Redis is configured, replicas count together.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Whether requests are limited at all.
    pub enabled: bool,
    /// Cheap reads.
    pub read: Bucket,
    /// Changes.
    pub write: Bucket,
    /// Sign-up, log-in, recovery.
    pub credentials: Bucket,
    /// Files.
    pub upload: Bucket,
    /// Bits of an IPv4 address that make one caller.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that make one caller.
    pub ipv6_prefix: u8,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Requests a second, in the long run.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u32,
}

impl Rates {
    /// The bucket of a class; none where it is not limited.
    pub fn bucket(&self, rate: Rate) -> Option<Bucket> {
        match rate {
            Rate::Read => Some(self.read),
            Rate::Write => Some(self.write),
            Rate::Credentials => Some(self.credentials),
            Rate::Upload => Some(self.upload),
            Rate::Unlimited => None,
        }
    }

    /// Adds a line for each fault.
    pub fn validate(&self, faults: &mut Vec<String>) {
        for (name, bucket) in [
            ("read", self.read),
            ("write", self.write),
            ("credentials", self.credentials),
            ("upload", self.upload),
        ] {
            let sound = bucket.burst > 0 && (0.001..=1_000_000.0).contains(&bucket.per_second);
            if !sound {
                faults.push(format!(
                    "gateway.rates.{name}: per_second must be 0.001 to 1000000, burst above zero"
                ));
            }
        }
        if !(8..=32).contains(&self.ipv4_prefix) || !(16..=128).contains(&self.ipv6_prefix) {
            faults.push("gateway.rates: ipv4_prefix must be 8 to 32, ipv6_prefix 16 to 128".to_owned());
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            enabled: true,
            read: Bucket { per_second: 100.0, burst: 400 },
            write: Bucket { per_second: 20.0, burst: 100 },
            credentials: Bucket { per_second: 2.0, burst: 60 },
            upload: Bucket { per_second: 1.0, burst: 30 },
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        }
    }
}

/// Browser applications on other origins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Their origins, such as `https://app.example.org`; `*` for any, then without credentials.
    pub origins: Vec<String>,
    /// Whether they may send cookies and other credentials of the browser.
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        Self { origins: Vec::new(), credentials: false, max_age: Duration::from_secs(600) }
    }
}

impl Cors {
    /// Adds a line for each fault.
    pub fn validate(&self, faults: &mut Vec<String>) {
        if self.credentials && self.origins.iter().any(|origin| origin == "*") {
            faults.push("gateway.cors: credentials need origins by name, not '*'".to_owned());
        }
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            let sound = Url::parse(origin)
                .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin);
            if !sound {
                faults.push(format!(
                    "gateway.cors.origins: '{origin}' is no origin; write it as https://app.example.org"
                ));
            }
        }
    }
}

/// The cache.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Bytes of memory for answers; zero keeps none.
    pub bytes: u64,
    /// Bytes of one answer; larger ones are not kept.
    pub answer_bytes: usize,
    /// Whether changes of accounts are heard of from the broker. A gateway that reaches none keeps answers for as long as they say themselves.
    pub purge: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { bytes: 32 * 1024 * 1024, answer_bytes: 1024 * 1024, purge: true }
    }
}

/// What `/auth/verify` believes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// The issuer of access tokens; empty: whoever signs with autha's keys.
    pub issuer: String,
    /// Their audience; empty: any.
    pub audience: String,
}
