//! The section `retention`: how long rows are kept that have done their work, and that none goes before it has.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Serialize};

use super::Section;

/// How long rows are kept. Rows that no queue was bound for are kept for `broker.event_lifetime`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Sent rows of the outbox, so that they can be published again when a broker's disk was lost.
    #[serde(with = "humantime_serde")]
    pub sent: Duration,
    /// Rows of the inbox: so long a message that comes again is known.
    #[serde(with = "humantime_serde")]
    pub inbox: Duration,
    /// Dead letters; without it they are kept until an operator decides.
    #[serde(with = "humantime_serde")]
    pub dead_letters: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { sent: day, inbox: 45 * day, dead_letters: None }
    }
}

impl Section for Retention {
    fn validate(&self, faults: &mut Vec<String>) {
        let fields =
            [("sent", Some(self.sent)), ("inbox", Some(self.inbox)), ("dead_letters", self.dead_letters)];
        for (name, value) in fields {
            if value.is_some_and(|value| value.is_zero()) {
                faults.push(format!("retention.{name}: must be above zero, such as 24h"));
            }
        }
    }
}

impl Retention {
    /// Adds a fault when a message could come again after the inbox has forgotten it: published last at the end of `sent`, kept in a queue for
    /// `event_lifetime`, tried again after `longest_retry`, redriven at the end of `dead_letters`.
    pub fn validate_inbox(
        &self,
        event_lifetime: Duration,
        longest_retry: Duration,
        faults: &mut Vec<String>,
    ) {
        let travels = [self.sent, event_lifetime, self.dead_letters.unwrap_or_default(), longest_retry]
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add);
        if self.inbox <= travels {
            faults.push(format!(
                "retention.inbox: must be longer than retention.sent, broker.event_lifetime, retention.dead_letters and the longest \
                 retry_delay together ({}), or a message that comes again would not be known: raise it, or lower one of them",
                format_duration(travels)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(retention: &Retention, event_lifetime: u64, longest_retry: u64) -> Vec<String> {
        let mut faults = Vec::new();
        retention.validate(&mut faults);
        retention.validate_inbox(
            Duration::from_secs(event_lifetime),
            Duration::from_secs(longest_retry),
            &mut faults,
        );
        faults
    }

    #[test]
    fn the_inbox_outlives_everything_that_can_bring_a_message_again() {
        let second = Duration::from_secs(1);
        let retention = |inbox| Retention { sent: 10 * second, inbox, dead_letters: Some(100 * second) };
        assert_eq!(faults(&retention(1112 * second), 1000, 1), [""; 0]);
        let fault = faults(&retention(1111 * second), 1000, 1).concat();
        for field in [
            "retention.inbox",
            "retention.sent",
            "broker.event_lifetime",
            "retention.dead_letters",
            "retry_delay",
            "18m 31s",
        ] {
            assert!(fault.contains(field), "{fault}");
        }
        assert_eq!(faults(&Retention::default(), 7 * 24 * 3600, 900), [""; 0]);
    }

    #[test]
    fn nothing_is_kept_for_no_time() {
        let fault = faults(&Retention { sent: Duration::ZERO, ..Retention::default() }, 1, 1).concat();
        assert!(fault.contains("retention.sent: must be above zero"), "{fault}");
    }
}
