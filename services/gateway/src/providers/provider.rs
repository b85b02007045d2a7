//! One service provider as a gateway serves it: its limits, and counts of what it used.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::config::{listener::Role, route::Configured};

/// How large a body may be that is passed on to a provider: its own proxy and backend decide what they take.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// What operators registered of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name, a DNS label.
    pub name: String,
    /// Its hosts, in small letters.
    pub domains: Vec<String>,
    /// Where its reverse proxies are.
    pub upstreams: Vec<Url>,
    /// Requests a second, and as many at once.
    pub requests_per_second: NonZeroU32,
    /// Requests at work at once.
    pub concurrent: usize,
}

/// A service provider.
pub struct Provider {
    /// What operators registered.
    pub settings: Settings,
    bucket: DefaultDirectRateLimiter,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// What was used since it was taken last.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
}

/// What was used, without naming anybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests that were passed on.
    pub requests: u64,
    /// Answers below 500 that were sent whole.
    pub successes: u64,
    /// Answers of 500 and above, and those that broke off.
    pub failures: u64,
    /// Requests that the provider's limits refused.
    pub refused: u64,
    /// Bytes of requests' bodies, as their heads announced them.
    pub bytes_received: u64,
    /// Bytes of answers' bodies.
    pub bytes_sent: u64,
}

/// A request that is over the provider's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many a second; one may pass after this.
    Rate(Duration),
    /// Too many at once.
    Concurrent,
}

impl Refused {
    /// What its caller is told: nothing of the caller's doing, so no 429.
    pub fn problem(self) -> Problem {
        let after = match self {
            Self::Rate(after) => after.as_secs() + u64::from(after.subsec_nanos() > 0),
            Self::Concurrent => 1,
        };
        let what = match self {
            Self::Rate(_) => "too many requests a second for this site; try again",
            Self::Concurrent => "too many requests at once for this site; try again in a second",
        };
        Problem::new(Code::Unavailable, what).retry_after(u32::try_from(after).unwrap_or(u32::MAX).max(1))
    }
}

/// A request of a provider's that is at work; dropped when its answer is sent.
#[derive(Debug)]
pub struct Call {
    counts: Arc<Counts>,
    _place: OwnedSemaphorePermit,
    success: bool,
}

impl Provider {
    /// A provider with full budgets.
    pub fn new(settings: Settings) -> Self {
        Self {
            bucket: RateLimiter::direct(Quota::per_second(settings.requests_per_second)),
            places: Arc::new(Semaphore::new(settings.concurrent)),
            counts: Arc::default(),
            settings,
        }
    }

    /// The same provider with other settings: what was used, and what is at work, is still known.
    pub fn with(&self, settings: Settings) -> Self {
        let same = settings.concurrent == self.settings.concurrent;
        Self {
            places: if same {
                Arc::clone(&self.places)
            } else {
                Arc::new(Semaphore::new(settings.concurrent))
            },
            counts: Arc::clone(&self.counts),
            bucket: RateLimiter::direct(Quota::per_second(settings.requests_per_second)),
            settings,
        }
    }

    /// Its routes: a host each, all below it.
    pub fn routes(&self) -> impl Iterator<Item = Configured> + '_ {
        self.settings.domains.iter().map(|domain| Configured {
            roles: vec![Role::Forward],
            host: Some(domain.clone()),
            upstreams: self.settings.upstreams.clone(),
            body_limit: BODY_LIMIT,
            websocket: true,
            ..Configured::default()
        })
    }

    /// Lets a request in whose head announces so many bytes.
    ///
    /// # Errors
    /// When the provider has used up one of its limits.
    pub fn admit(&self, announced: u64) -> Result<Call, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::Concurrent);
        let admitted = place.and_then(|place| {
            let now = DefaultClock::default().now();
            let passed = self.bucket.check().map_err(|until| Refused::Rate(until.wait_time_from(now)));
            passed.map(|()| place)
        });
        match admitted {
            Ok(place) => {
                self.counts.requests.fetch_add(1, Ordering::Relaxed);
                self.counts.bytes_received.fetch_add(announced, Ordering::Relaxed);
                Ok(Call { counts: Arc::clone(&self.counts), _place: place, success: false })
            }
            Err(refused) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                Err(refused)
            }
        }
    }

    /// Takes what was used out of the counts.
    pub fn take_used(&self) -> Used {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let counts = &self.counts;
        Used {
            requests: take(&counts.requests),
            successes: take(&counts.successes),
            failures: take(&counts.failures),
            refused: take(&counts.refused),
            bytes_received: take(&counts.bytes_received),
            bytes_sent: take(&counts.bytes_sent),
        }
    }

    /// Puts back what could not be written down.
    pub fn put_back(&self, used: Used) {
        let counts = &self.counts;
        for (count, value) in [
            (&counts.requests, used.requests),
            (&counts.successes, used.successes),
            (&counts.failures, used.failures),
            (&counts.refused, used.refused),
            (&counts.bytes_received, used.bytes_received),
            (&counts.bytes_sent, used.bytes_sent),
        ] {
            count.fetch_add(value, Ordering::Relaxed);
        }
    }
}

impl Call {
    /// So many bytes of its answer were sent.
    pub fn sent(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.counts.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Its answer was a success, and was sent whole.
    pub fn succeeded(&mut self) {
        self.success = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let count = if self.success { &self.counts.successes } else { &self.counts.failures };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, per_second: u32, concurrent: usize) -> Provider {
        Provider::new(Settings {
            name: name.to_owned(),
            domains: vec![format!("{name}.example.org")],
            upstreams: vec![Url::parse("http://127.0.0.1:1").unwrap()],
            requests_per_second: NonZeroU32::new(per_second).unwrap(),
            concurrent,
        })
    }

    #[test]
    fn one_providers_limits_are_not_anothers() {
        let (first, second) = (provider("sp1", 1000, 1), provider("sp2", 1000, 1));
        let call = first.admit(0).unwrap();
        assert_eq!(first.admit(0).unwrap_err(), Refused::Concurrent);
        second.admit(0).unwrap();
        drop(call);
        first.admit(0).unwrap();
    }

    #[test]
    fn a_refusal_for_the_rate_gives_its_place_back() {
        let provider = provider("sp1", 1, 1);
        drop(provider.admit(0).unwrap());
        for _ in 0..3 {
            assert!(matches!(provider.admit(0), Err(Refused::Rate(_))));
        }
    }

    #[test]
    fn what_was_used_is_counted_once_and_outlives_other_settings() {
        let before = provider("sp1", 1000, 2);
        let mut call = before.admit(7).unwrap();
        let after = before
            .with(Settings { domains: vec!["other.example.org".to_owned()], ..before.settings.clone() });
        call.sent(5);
        call.succeeded();
        drop(call);
        drop(after.admit(0).unwrap());
        let used = after.take_used();
        let expected = Used {
            requests: 2,
            successes: 1,
            failures: 1,
            bytes_received: 7,
            bytes_sent: 5,
            ..Used::default()
        };
        assert_eq!(used, expected);
        assert_eq!(before.take_used(), Used::default());
        after.put_back(used);
        assert_eq!(after.take_used(), expected);
    }
}
