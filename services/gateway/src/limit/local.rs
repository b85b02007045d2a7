//! Buckets in this process.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};
use orrery_schemas::routes::Rate;

use super::{Level, RATES, period};
use crate::{config::limits::Rates, listen::network::Network};

/// How many requests pass between two clearings of the buckets that are full again.
const CLEAR_EVERY: u32 = 8192;

type Keyed = DefaultKeyedRateLimiter<Network, StateInformationMiddleware>;

/// The buckets of every class that is limited.
pub struct Local {
    buckets: Vec<(Rate, Keyed, Duration, u32)>,
    clock: DefaultClock,
    requests: AtomicU32,
}

impl Local {
    /// Full buckets.
    pub fn new(rates: &Rates) -> Self {
        let buckets = RATES
            .into_iter()
            .filter_map(|rate| {
                let bucket = rates.bucket(rate)?;
                let quota = Quota::with_period(period(bucket))?.allow_burst(NonZeroU32::new(bucket.burst)?);
                let keyed = RateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>();
                Some((rate, keyed, period(bucket), bucket.burst))
            })
            .collect();
        Self { buckets, clock: DefaultClock::default(), requests: AtomicU32::new(0) }
    }

    /// Takes one request.
    pub fn take(&self, rate: Rate, network: Network) -> Option<Level> {
        let (_, keyed, period, burst) = self.buckets.iter().find(|(of, ..)| *of == rate)?;
        if self.requests.fetch_add(1, Ordering::Relaxed) % CLEAR_EVERY == CLEAR_EVERY - 1 {
            keyed.retain_recent();
        }
        Some(match keyed.check_key(&network) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                Level { allowed: true, left, after: *period * burst.saturating_sub(left) }
            }
            Err(until) => Level { allowed: false, left: 0, after: until.wait_time_from(self.clock.now()) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_for_each_period_and_only_for_its_caller() {
        let mut rates = Rates::default();
        rates.credentials.burst = 3;
        rates.credentials.per_second = 0.01;
        let local = Local::new(&rates);
        let (ada, bob) = (Network(1), Network(2));
        let left: Vec<_> = (0..3).map(|_| local.take(Rate::Credentials, ada).unwrap().left).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = local.take(Rate::Credentials, ada).unwrap();
        assert!(!refused.allowed && refused.after > Duration::from_secs(90), "{refused:?}");
        assert!(local.take(Rate::Credentials, bob).unwrap().allowed);
        assert!(local.take(Rate::Read, ada).unwrap().allowed);
        assert_eq!(local.take(Rate::Unlimited, ada), None);
    }
}
