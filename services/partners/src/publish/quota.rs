//! How many events a partner may send a minute to this replica: a bucket that fills evenly and holds a minute's worth.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

/// Buckets that are remembered; a full one needs no memory.
const REMEMBERED: usize = 10_000;

/// The buckets of partners.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<Uuid, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Quotas {
    /// Takes `events` of a partner that may send `per_minute`; 0 is no limit.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn take(&self, partner: Uuid, per_minute: u32, events: u32, now: Instant) -> Result<(), Duration> {
        if per_minute == 0 {
            return Ok(());
        }
        let (full, events) = (f64::from(per_minute), f64::from(events));
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > REMEMBERED {
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(60));
        }
        let bucket = buckets.entry(partner).or_insert(Bucket { left: full, at: now });
        let came = now.saturating_duration_since(bucket.at).as_secs_f64() * full / 60.0;
        *bucket = Bucket { left: (bucket.left + came).min(full), at: now };
        // A batch that is larger than the quota is taken when nothing else was, and paid for afterwards.
        if bucket.left >= events.min(full) {
            bucket.left -= events;
            return Ok(());
        }
        Err(Duration::from_secs_f64(((events.min(full) - bucket.left) * 60.0 / full).clamp(0.0, 3_600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_goes_at_once_and_then_evenly() {
        let (quotas, now, who) = (Quotas::default(), Instant::now(), Uuid::from_u128(1));
        assert_eq!(quotas.take(who, 60, 60, now), Ok(()));
        assert_eq!(quotas.take(who, 60, 1, now), Err(Duration::from_secs(1)));
        assert_eq!(quotas.take(Uuid::from_u128(2), 60, 1, now), Ok(()));
        assert_eq!(quotas.take(who, 60, 1, now + Duration::from_secs(1)), Ok(()));
        assert_eq!(quotas.take(who, 0, 1_000_000, now), Ok(()));
        let later = now + Duration::from_secs(120);
        assert_eq!(quotas.take(who, 60, 100, later), Ok(()), "larger than the quota, and nothing before it");
        assert!(quotas.take(who, 60, 1, later + Duration::from_secs(30)).is_err());
    }
}
