//! When a delivery is tried again: pauses that grow threefold with jitter, over days. Beside the house's one retry of its own handlers (decision 61).

use std::time::Duration;

use chrono::{DateTime, Utc};
use orrery_supervise::random::Random;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::config::Delivery;

/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);

/// The pause after `attempts` failed tries, a fifth of it random, so that what failed together does not come back together.
pub fn pause(delivery: &Delivery, attempts: i32, random: &Random) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(30);
    let pause =
        delivery.first_delay.saturating_mul(3_u32.saturating_pow(doublings)).min(delivery.longest_delay);
    pause.mul_f64(0.9 + 0.2 * random.fraction())
}

/// What `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date.
pub fn asked(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::parse_from_rfc2822(text).ok()?;
            date.to_utc().signed_duration_since(now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_spread() {
        let (delivery, random) = (Delivery::default(), Random::seeded(7));
        for (attempts, seconds) in [
            (1, 5.0),
            (2, 15.0),
            (3, 45.0),
            (6, 1_215.0),
            (9, 32_805.0),
            (30, 43_200.0),
            (i32::MAX, 43_200.0),
        ] {
            let pause = pause(&delivery, attempts, &random).as_secs_f64();
            assert!(pause >= seconds * 0.9 && pause <= seconds * 1.1, "{attempts}: {pause}");
        }
        assert_ne!(pause(&delivery, 5, &random), pause(&delivery, 5, &random));
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_has_a_limit() {
        let asked = |text: &str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            asked(&headers, DateTime::from_timestamp(784_111_777, 0).unwrap()).map(|wait| wait.as_secs())
        };
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(asked("99999999999"), Some(24 * 3600));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
    }
}
