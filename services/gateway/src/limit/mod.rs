//! What a caller may ask: a token bucket for each class of requests and each network. Counted here, or in Redis by all replicas together.

mod local;
mod shared;

use std::{sync::Arc, time::Duration};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use orrery_schemas::routes::Rate;

use self::local::Local;
pub use self::shared::Shared;
use crate::{
    config::limits::{Bucket, Rates},
    listen::network::Network,
};

/// Every class.
pub const RATES: [Rate; 5] = [Rate::Read, Rate::Write, Rate::Credentials, Rate::Upload, Rate::Unlimited];

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A class as the configuration and the `RateLimit` fields name it.
pub const fn name(rate: Rate) -> &'static str {
    match rate {
        Rate::Read => "read",
        Rate::Write => "write",
        Rate::Credentials => "credentials",
        Rate::Upload => "upload",
        Rate::Unlimited => "unlimited",
    }
}

/// The buckets of every caller.
pub struct Limiter {
    rates: Rates,
    local: Local,
    shared: Option<Arc<Shared>>,
}

/// What a bucket says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Whether the request may pass.
    pub allowed: bool,
    /// How many more may pass at once.
    pub left: u32,
    /// When the bucket is full again; for a request that may not pass, when one may.
    pub after: Duration,
}

/// What one request is told of its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    rate: Rate,
    bucket_burst: u32,
    window_seconds: u64,
    level: Level,
}

impl Limiter {
    /// The buckets as they are configured, in Redis where there is one.
    pub fn new(rates: Rates, shared: Option<Arc<Shared>>) -> Self {
        Self { local: Local::new(&rates), rates, shared }
    }

    /// Takes a request from its caller's bucket; none where it is not limited.
    pub async fn take(&self, rate: Rate, network: Network) -> Option<Verdict> {
        let bucket = self.rates.bucket(rate).filter(|_| self.rates.enabled)?;
        let counted = match &self.shared {
            Some(shared) => shared.take(name(rate), bucket, network).await,
            None => None,
        };
        let level = counted.or_else(|| self.local.take(rate, network))?;
        Some(Verdict { rate, bucket_burst: bucket.burst, window_seconds: window_seconds(bucket), level })
    }
}

impl Verdict {
    /// Whether the request may pass.
    pub fn allowed(&self) -> bool {
        self.level.allowed
    }

    /// When to come again, in seconds.
    pub fn retry_after_seconds(&self) -> u32 {
        u32::try_from(seconds(self.level.after)).unwrap_or(u32::MAX)
    }

    /// Tells the caller (draft-ietf-httpapi-ratelimit-headers).
    pub fn write(&self, headers: &mut HeaderMap) {
        let name = name(self.rate);
        let policy = format!("\"{name}\";q={};w={}", self.bucket_burst, self.window_seconds);
        let limit = format!("\"{name}\";r={};t={}", self.level.left, seconds(self.level.after));
        for (field, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(field, value);
            }
        }
    }
}

/// The time in which a whole bucket fills.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded by the configuration's bounds"
)]
fn window_seconds(bucket: Bucket) -> u64 {
    (f64::from(bucket.burst) / bucket.per_second).ceil().max(1.0) as u64
}

/// Whole seconds, at least one where there is anything to wait for.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The time between two requests in the long run.
fn period(bucket: Bucket) -> Duration {
    Duration::from_secs_f64(1.0 / bucket.per_second.max(0.000_001))
}
