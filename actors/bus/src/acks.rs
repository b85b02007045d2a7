//! Acknowledgements of one channel, gathered: one `multiple` for what is finished at the front, and never one for what is not finished.

use std::collections::VecDeque;

use lapin::{Channel, options::BasicAckOptions};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AtWork,
    Finished,
    Acknowledged,
}

/// What is sent to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ack {
    tag: u64,
    /// With all before it.
    multiple: bool,
}

/// The deliveries of one channel that are not answered yet, in their order.
#[derive(Debug, Default)]
pub struct Acks {
    /// Tags rise; the first is at work or not yet acknowledged.
    deliveries: VecDeque<(u64, State)>,
    /// Finished and not acknowledged.
    finished: usize,
}

impl Acks {
    /// A delivery came.
    pub fn begin(&mut self, tag: u64) {
        self.deliveries.push_back((tag, State::AtWork));
    }

    /// Its work is over: it may be acknowledged.
    pub fn finish(&mut self, tag: u64) {
        let found = self.deliveries.binary_search_by_key(&tag, |(tag, _)| *tag);
        if let Some((_, state @ State::AtWork)) = found.ok().and_then(|at| self.deliveries.get_mut(at)) {
            *state = State::Finished;
            self.finished += 1;
        }
    }

    /// How many are finished and not acknowledged.
    pub fn waiting(&self) -> usize {
        self.finished
    }

    /// How many of them one acknowledgement takes: those before the first that is at work.
    pub fn at_front(&self) -> usize {
        let front = self.deliveries.iter().take_while(|(_, state)| *state != State::AtWork);
        front.filter(|(_, state)| *state == State::Finished).count()
    }

    /// Acknowledges what is finished at the front, and up to `stragglers` of what is finished behind one that is not.
    ///
    /// # Errors
    /// When the channel is closed; the broker then delivers them again.
    pub async fn flush(&mut self, channel: &Channel, stragglers: usize) -> lapin::Result<()> {
        for Ack { tag, multiple } in self.due(stragglers) {
            channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
        }
        Ok(())
    }

    fn due(&mut self, stragglers: usize) -> Vec<Ack> {
        let mut due = Vec::new();
        let mut front = None;
        while let Some((tag, state)) = self.deliveries.front().copied() {
            match state {
                State::AtWork => break,
                // The broker knows an acknowledged tag no more: it cannot be the one that is named.
                State::Acknowledged => {}
                State::Finished => {
                    front = Some(tag);
                    self.finished -= 1;
                }
            }
            self.deliveries.pop_front();
        }
        due.extend(front.map(|tag| Ack { tag, multiple: true }));
        let most = stragglers.min(self.finished);
        let finished = self.deliveries.iter_mut().filter(|(_, state)| *state == State::Finished);
        for (tag, state) in finished.take(most) {
            *state = State::Acknowledged;
            due.push(Ack { tag: *tag, multiple: false });
        }
        self.finished -= most;
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begun(tags: std::ops::RangeInclusive<u64>) -> Acks {
        let mut acks = Acks::default();
        tags.for_each(|tag| acks.begin(tag));
        acks
    }

    #[test]
    fn what_is_finished_in_order_shares_one_acknowledgement() {
        let mut acks = begun(1..=4);
        [2, 1, 3].into_iter().for_each(|tag| acks.finish(tag));
        assert_eq!(acks.due(0), [Ack { tag: 3, multiple: true }]);
        assert_eq!(acks.waiting(), 0);
        acks.finish(4);
        assert_eq!(acks.due(0), [Ack { tag: 4, multiple: true }]);
    }

    #[test]
    fn a_slow_delivery_holds_up_the_rest_only_until_stragglers_are_asked_for() {
        let mut acks = begun(1..=4);
        [2, 3, 4].into_iter().for_each(|tag| acks.finish(tag));
        assert_eq!((acks.due(0), acks.at_front()), (Vec::new(), 0));
        assert_eq!(acks.due(2), [Ack { tag: 2, multiple: false }, Ack { tag: 3, multiple: false }]);
        assert_eq!(acks.waiting(), 1);
        assert_eq!(acks.due(2), [Ack { tag: 4, multiple: false }]);
        acks.finish(1);
        assert_eq!(acks.at_front(), 1);
        assert_eq!(acks.due(2), [Ack { tag: 1, multiple: true }]);
        assert!(acks.deliveries.is_empty());
    }

    proptest! {
        #[test]
        fn each_is_acknowledged_once_and_only_when_it_is_finished(
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..4usize), 1..60),
        ) {
            let count = u64::try_from(steps.len()).unwrap();
            let mut acks = begun(1..=count);
            let (mut at_work, mut open): (Vec<u64>, Vec<u64>) = ((1..=count).collect(), (1..=count).collect());
            for (index, flush, stragglers) in steps {
                let tag = at_work.remove(index.index(at_work.len()));
                acks.finish(tag);
                for Ack { tag, multiple } in if flush { acks.due(stragglers) } else { Vec::new() } {
                    // The broker closes the channel for a tag that it does not know.
                    prop_assert!(open.contains(&tag));
                    open.retain(|other| if multiple { *other > tag } else { *other != tag });
                    prop_assert!(at_work.iter().all(|unfinished| open.contains(unfinished)));
                }
            }
            acks.due(usize::MAX).into_iter().for_each(|ack| open.retain(|tag| *tag != ack.tag && !(ack.multiple && *tag < ack.tag)));
            prop_assert!(open.is_empty());
        }
    }
}
