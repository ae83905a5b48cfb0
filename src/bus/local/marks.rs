//! What relays have marked in one lane, as mark.lua and verify.lua keep it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bus::{Counted, Mark, MarkAt, Marked, Position, Reached};

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LaneMarks {
    /// The number of the verification that was counted last.
    number: u64,
    /// By source: the epoch, and how far its relay has come.
    marks: BTreeMap<String, (u64, Reached)>,
    /// By source: the relay, and until when it is the only one.
    leases: BTreeMap<String, (u64, Duration)>,
}

impl LaneMarks {
    /// Counts a verification and answers with the marks of its epoch.
    pub(crate) fn count(&mut self, now: Duration, epoch: u64, sources: &[String]) -> Counted {
        if sources.is_empty() {
            return Counted::default();
        }
        // The clock is in it, so that no number is given twice even if the lane is put back to an earlier state.
        let clock = u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2);
        self.number = clock.max(self.number + 1);
        let marks = sources.iter().enumerate();
        Counted {
            number: self.number,
            marks: marks
                .filter_map(|(at, source)| {
                    let (of, mark) = self.marks.get(source)?;
                    (*of == epoch).then_some((at, *mark))
                })
                .collect(),
        }
    }

    /// Sets a mark, or does not.
    pub(crate) fn mark(&mut self, now: Duration, head: Position, mark: Mark) -> Marked {
        let mut marked = Marked {
            epoch: head.epoch,
            number: self.number,
            ..Marked::default()
        };
        if let Some((relay, lease)) = mark.lease {
            let held = self.leases.get(&mark.source);
            let others = held.filter(|(by, _)| *by != relay);
            if lease.is_zero() {
                if others.is_none() {
                    self.leases.remove(&mark.source);
                }
            } else if others.is_some_and(|(_, until)| *until > now) {
                marked.refused = true;
                return marked;
            } else {
                self.leases
                    .insert(mark.source.clone(), (relay, now + lease));
            }
        }
        if let Some(MarkAt {
            epoch,
            reached,
            sequence,
        }) = mark.at
            && epoch == head.epoch
            && reached.number <= self.number
            && sequence <= head.sequence
        {
            let before = self.marks.get(&mark.source);
            let before = before.filter(|(of, _)| *of == epoch);
            // A mark that comes late proves less.
            if before.is_none_or(|(_, before)| before.number < reached.number) {
                self.marks.insert(mark.source, (epoch, reached));
            }
            marked.set = true;
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_given_up_is_free_and_only_its_relay_can_do_that() {
        let mut marks = LaneMarks::default();
        let mut refused = |relay, seconds| {
            let head = Position {
                epoch: 1,
                sequence: 1,
            };
            let mark = Mark {
                source: "orders".to_owned(),
                at: None,
                lease: Some((relay, Duration::from_secs(seconds))),
            };
            marks.mark(Duration::ZERO, head, mark).refused
        };
        assert!(!refused(1, 30) && refused(2, 30));
        assert!(!refused(2, 0) && refused(2, 30), "it was not its own");
        assert!(!refused(1, 30) && !refused(1, 0));
        assert!(!refused(2, 30) && refused(1, 30));
    }
}
