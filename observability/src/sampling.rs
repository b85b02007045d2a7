//! Which traces are recorded: a part of those that begin here, and those that their sender recorded, if it is one of ours. The span of a batch is
//! recorded where a message of it is.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingResult, ShouldSample};

use crate::trace::OUTSIDE;

/// Follows the sender; a sender outside is followed in its trace, and not in what it would have us record.
#[derive(Debug, Clone)]
pub(crate) struct Sampling {
    part: Sampler,
    followed: Sampler,
}

impl Sampling {
    /// Records the part `ratio` of what begins here.
    pub(crate) fn new(ratio: f64) -> Self {
        let part = Sampler::TraceIdRatioBased(ratio);
        Self { followed: Sampler::ParentBased(Box::new(part.clone())), part }
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if attributes.iter().any(|attribute| attribute.key.as_str() == OUTSIDE) {
            // Decided by an id of ours: who chooses the trace's own could choose one that is always recorded.
            let drawn = RandomIdGenerator::default().new_trace_id();
            return self.part.should_sample(parent, drawn, name, kind, attributes, links);
        }
        let begins_here = parent.is_none_or(|parent| !parent.span().span_context().is_valid());
        if begins_here && links.iter().any(|link| link.span_context.is_sampled()) {
            return Sampler::AlwaysOn.should_sample(parent, trace, name, kind, attributes, links);
        }
        self.followed.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceState};
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    fn recorded(ratio: f64, sender: Option<bool>, outside: bool) -> bool {
        let parent = sender.map(|recorded| {
            let flags = if recorded { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let (trace, span) = (TraceId::from(1_u128), SpanId::from(1_u64));
            let sender = SpanContext::new(trace, span, flags, true, TraceState::default());
            Context::new().with_remote_span_context(sender)
        });
        let attributes = if outside { vec![KeyValue::new(OUTSIDE, true)] } else { Vec::new() };
        let result = Sampling::new(ratio).should_sample(
            parent.as_ref(),
            TraceId::from(1_u128),
            "span",
            &SpanKind::Server,
            &attributes,
            &[],
        );
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_batch_is_recorded_where_a_message_of_it_is() {
        let (trace, span) = (TraceId::from(1_u128), SpanId::from(1_u64));
        for (flags, is_recorded) in [(TraceFlags::SAMPLED, true), (TraceFlags::default(), false)] {
            let message = SpanContext::new(trace, span, flags, true, TraceState::default());
            let links = [Link::with_context(message)];
            let result =
                Sampling::new(0.0).should_sample(None, trace, "batch", &SpanKind::Internal, &[], &links);
            assert_eq!(result.decision == SamplingDecision::RecordAndSample, is_recorded);
        }
    }

    #[test]
    fn a_sender_of_ours_decides_and_one_outside_does_not() {
        assert!(recorded(0.0, Some(true), false));
        assert!(!recorded(1.0, Some(false), false));
        assert!(!recorded(0.0, Some(true), true));
        assert!(recorded(1.0, Some(false), true));
        assert!(recorded(1.0, None, true) && !recorded(0.0, None, false));
    }
}
