//! A budget that fills again with time.

use std::time::{Duration, Instant};

/// So much at once, and so much a time on average.
pub struct Bucket {
    left: f64,
    most: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(most: u32, count: u32, time: Duration) -> Self {
        let most = f64::from(most.max(1));
        let per_second = f64::from(count) / time.as_secs_f64().max(f64::MIN_POSITIVE);
        Self { left: most, most, per_second, at: Instant::now() }
    }

    /// Takes one, if there is one at `now`.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.per_second).min(self.most);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_with_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, 1, Duration::from_secs(1));
        assert!(bucket.take(start) && bucket.take(start) && !bucket.take(start));
        assert!(bucket.take(start + Duration::from_millis(1500)));
        assert!(!bucket.take(start + Duration::from_millis(1600)));
        let much_later = start + Duration::from_secs(3600);
        assert!(bucket.take(much_later) && bucket.take(much_later) && !bucket.take(much_later));
    }
}
