//! How many requests may be sent again: a share of those that were sent, so that retries never become the load that they flee.

use std::sync::atomic::{AtomicI64, Ordering};

/// What one request brings, in hundredths of a retry.
const EARNED: i64 = 20;
/// What one retry costs.
const COST: i64 = 100;
/// The most that is saved, and what there is at first: some retries are possible without any traffic.
const MOST: i64 = 20 * COST;

/// The budget of one pool.
#[derive(Debug)]
pub struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(MOST))
    }
}

impl Budget {
    /// A request was sent for the first time.
    pub fn earn(&self) {
        let earned = |saved: i64| Some((saved + EARNED).min(MOST));
        // The closure always has an answer.
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned).is_ok();
    }

    /// Whether one may be sent again.
    pub fn spend(&self) -> bool {
        let spent = |saved: i64| (saved >= COST).then_some(saved - COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_sent_again() {
        let budget = Budget::default();
        while budget.spend() {}
        let mut again = 0;
        for _ in 0..100 {
            budget.earn();
            again += u32::from(budget.spend());
        }
        assert_eq!(again, 20);
    }
}
