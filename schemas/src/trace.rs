//! W3C Trace Context, the part of it that travels with requests and events. Sampling and export do not live here.

use std::{fmt, str::FromStr};

/// A `traceparent` of version 00 (<https://www.w3.org/TR/trace-context/#traceparent-header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    sampled: bool,
}

/// The text is no `traceparent` that can be used; a new trace is begun instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent of version 00")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Begins a trace from random bits; zero bits, which the specification forbids, become one.
    pub fn from_random(trace_id: u128, parent_id: u64) -> Self {
        Self { trace_id: trace_id.max(1), parent_id: parent_id.max(1), sampled: true }
    }

    /// The same trace, seen from another span.
    #[must_use]
    pub fn child(self, parent_id: u64) -> Self {
        Self { parent_id: parent_id.max(1), ..self }
    }

    /// The trace id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn hex(part: Option<&str>, digits: usize) -> Result<u128, InvalidTraceParent> {
            let part = part.filter(|part| part.len() == digits).ok_or(InvalidTraceParent)?;
            if part.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(InvalidTraceParent);
            }
            u128::from_str_radix(part, 16).map_err(|_| InvalidTraceParent)
        }
        let mut parts = text.split('-');
        if parts.next() != Some("00") {
            return Err(InvalidTraceParent);
        }
        let trace_id = hex(parts.next(), 32)?;
        let parent_id = u64::try_from(hex(parts.next(), 16)?).map_err(|_| InvalidTraceParent)?;
        let flags = hex(parts.next(), 2)?;
        if trace_id == 0 || parent_id == 0 || parts.next().is_some() {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id, parent_id, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_survives_a_round_trip() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), text);
    }

    #[test]
    fn hostile_traceparents_are_refused() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }
}
