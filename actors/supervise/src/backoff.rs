//! Pauses between tries: doubling, with jitter, to a limit.

use std::time::Duration;

use crate::random::Random;

const FIRST: Duration = Duration::from_millis(100);

/// The pauses of one series of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Backoff {
    /// For a dependency that is away: 100 ms doubling to 2 s, so that its return is noticed soon.
    pub fn dependency() -> Self {
        Self { next: FIRST, limit: Duration::from_secs(2) }
    }

    /// For a fault of ours: 100 ms doubling to 30 s.
    pub fn panic() -> Self {
        Self { next: FIRST, limit: Duration::from_secs(30) }
    }

    /// The next pause: between half and all of the step, so that replicas do not come back at once.
    pub fn next(&mut self, random: &Random) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.limit);
        step.mul_f64(0.5 + random.fraction() / 2.0)
    }

    /// Begins the series again after a success.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_limit() {
        let random = Random::seeded(1);
        let mut backoff = Backoff::panic();
        let pauses: Vec<_> = (0..12).map(|_| backoff.next(&random)).collect();
        assert!(pauses[0] >= FIRST / 2 && pauses[0] <= FIRST);
        assert!(pauses[11] >= Duration::from_secs(15) && pauses[11] <= Duration::from_secs(30));
    }
}
