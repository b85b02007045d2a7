//! Times that were stored, of which none is trusted to lie in the past: the clock may have been ahead when it was written.

use chrono::{DateTime, TimeDelta, Utc};

/// How far the clocks of two machines may differ.
pub const SKEW: TimeDelta = TimeDelta::seconds(60);

/// Whether the time lies in the past, as far as clocks agree.
pub fn is_past(stored: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    stored <= now + SKEW
}

/// Whether less than `lifetime` has gone by since then. Nobody knows what has gone by since a time that lies ahead.
pub fn is_within(stored: DateTime<Utc>, lifetime: TimeDelta, now: DateTime<Utc>) -> bool {
    is_past(stored, now) && now - stored < lifetime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_lies_ahead_is_within_nothing() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let quarter = TimeDelta::minutes(15);
        for (seconds, within) in
            [(0, true), (-899, true), (-900, false), (60, true), (61, false), (7200, false)]
        {
            assert_eq!(is_within(now + TimeDelta::seconds(seconds), quarter, now), within, "{seconds}");
        }
        // No time overflows.
        assert!(!is_within(DateTime::<Utc>::MIN_UTC, quarter, now));
        assert!(!is_within(DateTime::<Utc>::MAX_UTC, quarter, now));
    }
}
