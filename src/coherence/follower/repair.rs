//! Repairs: events that the subscription has not delivered are read from the journal.

use super::{Follower, Repair, Repaired, Round};
use crate::bus::{Journal, SubscriptionRepair};

impl Follower {
    /// Events are missing up to `target`: how to get them, unless that is under way.
    pub(crate) fn repair(&mut self, target: u64) -> Option<Repair> {
        let applied = self.applied?;
        if self.repair.is_some() || target <= applied.sequence {
            return None;
        }
        self.repairs += 1;
        let repair = Repair {
            number: self.repairs,
            after: applied.sequence,
            target,
        };
        self.repair = Some(repair);
        self.repair
    }

    /// Returns the next page of a repair that has not reached its target.
    pub(crate) fn repair_rest(&mut self, of: Repair) -> Option<Repair> {
        self.repair(of.target)
    }

    /// As [`repair`](Self::repair), up to the head of the oldest verification that waits: the
    /// events were published and nothing has been heard of them.
    pub(crate) fn repair_silence(&mut self) -> Option<Repair> {
        let target = self.pending.back()?.1;
        let repair = self.repair(target)?;
        self.silent_to = Some(target);
        Some(repair)
    }

    pub(crate) fn repairing(&self) -> bool {
        self.repair.is_some()
    }

    /// A page of the journal has arrived for repair `number`; `sent` as in [`hear`](Self::hear).
    ///
    /// Only events that are contiguous from the last applied one all the way to the target count.
    pub(crate) fn on_journal(&mut self, number: u64, journal: Journal, sent: Round) -> Repaired {
        let (Some(repair), Some(applied)) = (self.repair, &mut self.applied) else {
            return Repaired::Obsolete;
        };
        if repair.number != number {
            return Repaired::Obsolete;
        }
        self.repair = None;
        if journal.head.epoch != applied.epoch {
            self.doubt_of(Some(journal.head.epoch), sent);
            return Repaired::OtherEpoch;
        }
        let first = applied.sequence + 1;
        let contiguous = (first..)
            .zip(&journal.events)
            .all(|(want, (got, _))| want == *got);
        let reached = applied.sequence + journal.events.len() as u64;
        let unreachable = repair.target > journal.head.sequence;
        if !contiguous || unreachable || (journal.events.is_empty() && reached < repair.target) {
            // What the subscription has not delivered stays undelivered: if it were forgotten here, one
            // that is dead would never be renewed where the journal is too short to replace it.
            let (heard, silent_to) = (self.heard, self.silent_to);
            self.adopt(journal.head);
            (self.heard, self.silent_to) = (heard, silent_to);
            return Repaired::Fence;
        }
        applied.sequence = reached;
        Repaired::Events {
            events: journal.events,
            done: reached >= repair.target,
        }
    }

    /// The repair failed; the next verification starts another.
    pub(crate) fn abandon_repair(&mut self, number: u64) {
        if self.repair.is_some_and(|repair| repair.number == number) {
            self.repair = None;
        }
    }

    /// Asked once a verification: the journal has supplied what the subscription has not delivered since, although it
    /// looks healthy. First the subscription is renewed, then its connection.
    pub(crate) fn repair_needed(&mut self) -> Option<SubscriptionRepair> {
        let silent = self.silent_to?;
        if self.heard >= silent || self.repair.is_some() {
            return None;
        }
        self.silent_to = None;
        self.strikes += 1;
        Some(if self.strikes == 1 {
            SubscriptionRepair::Resubscribe
        } else {
            SubscriptionRepair::Reconnect
        })
    }
}
