//! What a relay's marks prove of one lane: up to when everything *committed* in a source is applied. No I/O.
//!
//! Every verification of a lane has a number. A relay reads the number of the last one, then how far the source's log
//! goes, publishes what was committed up to there, and only when Redis has acknowledged all of that sets its mark
//! to the number. A verification returns the marks with the head. So, once everything up to the head is applied:
//! 1: this instance sends verification n; 2: Redis counts it; 3: the relay reads a number of at least n; 4: it reads the
//! log's end, before which everything lies that was committed before 1; 5: that is published; 6: the mark is set; 7: a
//! verification returns it, and a head that is not before 5.
//!
//! Numbers and marks are of one epoch. A mark of another one counts for nothing, because what was published then may be
//! lost.

use std::collections::VecDeque;

use crate::bus::{Counted, Position, Reached};
use crate::mutants::{Mechanism, without};
use crate::store::source::Proof;
use crate::time::Nanos;

/// Verifications whose beginning is remembered: half a minute at the default interval. A relay whose round takes longer
/// proves nothing, and its caches fall back to the age of their loads.
const REMEMBERED: usize = 64;

/// Answers that wait for events to be applied; as many verifications may wait in the follower.
const PENDING: usize = 16;

/// Follows the marks of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Marks {
    epoch: u64,
    /// Own verifications, oldest first: their numbers, and when each was sent.
    sent: VecDeque<(u64, Sent)>,
    /// Heads that have to be applied, and what is proven then: of which source, up to when.
    pending: VecDeque<(u64, Vec<(usize, Proof)>)>,
}

/// When a verification was sent: the time, and the invalidation clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    pub(crate) at: Nanos,
    pub(crate) token: u64,
}

impl Marks {
    /// The answer to a verification has been believed.
    pub(crate) fn learn(&mut self, sent: Sent, head: Position, counted: &Counted) {
        if head.epoch != self.epoch && !without(Mechanism::MarksOfOneEpoch) {
            *self = Self::default();
        }
        self.epoch = head.epoch;
        if counted.number == 0 {
            return;
        }
        // Answers may arrive in another order than their verifications were counted in.
        let after = self.sent.partition_point(|(n, _)| *n < counted.number);
        self.sent.insert(after, (counted.number, sent));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        let marks = counted.marks.iter();
        let reached: Vec<_> = marks
            .filter_map(|(source, mark)| Some((*source, self.proof(*mark)?)))
            .collect();
        // When full, the newest is left out: the oldest are closest to being proven.
        if !reached.is_empty() && self.pending.len() < PENDING {
            self.pending.push_back((head.sequence, reached));
        }
    }

    /// Returns when the latest of the own verifications was sent whose number the mark has reached. What was
    /// committed, or applied here, before that lies before the mark's place, for that was read later.
    fn proof(&self, mark: Reached) -> Option<Proof> {
        let reached = self
            .sent
            .iter()
            .filter(|(number, _)| *number <= mark.number);
        let (_, Sent { at, token }) = *reached.max_by_key(|(_, sent)| sent.at)?;
        let place = mark.place;
        Some(Proof { at, token, place })
    }

    /// The subscription's connection was lost: what was learned before proves nothing, as for the follower.
    pub(crate) fn disconnected(&mut self) {
        self.pending.clear();
    }

    /// Everything up to here is applied: which sources are proven up to when.
    pub(crate) fn proven(&mut self, applied: Option<Position>) -> Vec<(usize, Proof)> {
        let Some(applied) = applied.filter(|applied| applied.epoch == self.epoch) else {
            return Vec::new();
        };
        let mut proven = Vec::new();
        let early = without(Mechanism::MarksAfterApplying);
        while let Some((head, _)) = self.pending.front() {
            if *head > applied.sequence && !early {
                break;
            }
            proven.extend(self.pending.pop_front().into_iter().flat_map(|(_, it)| it));
        }
        proven
    }
}

#[cfg(test)]
mod tests;
