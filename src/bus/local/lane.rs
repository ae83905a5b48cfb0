//! One lane as a server keeps it: counter, journal, members and intents.
//!
//! No I/O, no clock and no delivery: every call is given the server's time and returns what it
//! published. It does exactly what the scripts over Redis do, so that tests and the simulator
//! judge the same protocol.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::members::Members;
use crate::bus::{
    Counted, Intent, IntentId, JOURNAL_PAGE, Journal, Known, Position, StillOpen, Verified,
};
use crate::mutants::{Mechanism, without};

/// What the server adds to its time to begin a sequence, in microseconds: sequences then look as
/// they do over Redis, where they begin at the wall clock's microseconds (and need 51 bits).
/// The clock shows a day at first, which makes 1,750,000,000 seconds.
const FIRST_SEQUENCE: u64 = 1_749_913_600_000_000;

/// An event as the lane's subscribers get it.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) lane: u32,
    pub(crate) position: Position,
    pub(crate) payload: Bytes,
}

/// The server of the moment: its time, which life of it this is, and how it draws epochs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Duration,
    pub(crate) run: u64,
    /// What the next epoch will be; a fresh number at every call.
    pub(crate) fresh_epoch: u64,
}

/// The instance that verifies, and what it wants the lane to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) instance: u64,
    pub(crate) member_timeout: Duration,
    pub(crate) lanes: u32,
    pub(crate) journal: u32,
    pub(crate) known: Known,
}

/// The lane was set up for this other number of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherLanes(pub(crate) u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counter {
    epoch: u64,
    sequence: u64,
    /// Where the counter was when the epoch began.
    first: u64,
    /// What only a verification stores: the server's life and the number of lanes.
    /// `None` until then: the counter was made by a publish.
    checked: Option<Checked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Checked {
    /// `None` once the counter was found to have gone back.
    run: Option<u64>,
    lanes: u32,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    number: u32,
    counter: Option<Counter>,
    journal: VecDeque<(u64, Bytes)>,
    members: Members,
}

impl Lane {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            counter: None,
            journal: VecDeque::new(),
            members: Members::default(),
        }
    }

    /// Numbers an event, journals it and clears intents.
    pub(crate) fn publish(
        &mut self,
        moment: &Moment,
        journal: u32,
        payload: Bytes,
        clears: &[IntentId],
    ) -> Published {
        self.members.clear(clears);
        self.append(moment, journal, payload)
    }

    /// A member's beat: begins a new epoch where it must, publishes the intents of the dead, and
    /// only then reads the head.
    pub(crate) fn verify(
        &mut self,
        moment: &Moment,
        beat: &Beat,
        published: &mut Vec<Published>,
    ) -> Result<Verified, OtherLanes> {
        let checked = self.counter.as_ref().and_then(|counter| counter.checked);
        if let Some(checked) = checked
            && checked.lanes != beat.lanes
        {
            return Err(OtherLanes(checked.lanes));
        }
        if checked.is_none_or(|checked| checked.run != Some(moment.run)) || self.went_back(beat) {
            let sequence = self.counter.as_ref().map(|counter| counter.sequence);
            let sequence = sequence.unwrap_or_else(|| first_sequence(moment.now));
            self.counter = Some(Counter {
                epoch: moment.fresh_epoch,
                sequence,
                first: sequence,
                checked: Some(Checked {
                    run: Some(moment.run),
                    lanes: beat.lanes,
                }),
            });
            self.journal.clear();
        }
        let known = self
            .members
            .beat(beat.instance, beat.member_timeout, moment.now);
        let due = if without(Mechanism::IntentRecovery) {
            Vec::new()
        } else {
            self.members.recover(moment.now, beat.member_timeout)
        };
        let recovered = u32::try_from(due.len()).unwrap_or(u32::MAX);
        for payload in due {
            published.push(self.append(moment, beat.journal, payload));
        }
        Ok(Verified {
            head: self.head(),
            known,
            recovered,
            wait: Duration::ZERO,
            pause: Duration::ZERO,
            others: (!known).then(|| self.members.count() - 1),
            counted: Counted::default(),
        })
    }

    /// Returns whether the counter went back within its epoch: the caller knows of more.
    fn went_back(&self, beat: &Beat) -> bool {
        let (Some(counter), Some(lowest)) = (&self.counter, beat.known.lowest()) else {
            return false;
        };
        counter.epoch == lowest.epoch && counter.sequence < lowest.sequence
    }

    /// Another epoch begins with the next verification.
    pub(crate) fn doubt(&mut self) {
        if let Some(checked) = self
            .counter
            .as_mut()
            .and_then(|counter| counter.checked.as_mut())
        {
            checked.run = None;
        }
    }

    /// At most a page of the events after `after`. In a life of the server that no verification has
    /// found, the head is of no epoch: numbers of the last life may be given out again.
    pub(crate) fn journal(&self, run: u64, after: u64) -> Journal {
        let from = self
            .journal
            .partition_point(|(sequence, _)| *sequence <= after);
        let events = self
            .journal
            .range(from..)
            .take(JOURNAL_PAGE)
            .cloned()
            .collect();
        let head = if self.is_verified_in(run) {
            self.head()
        } else {
            Position {
                epoch: 0,
                sequence: 0,
            }
        };
        Journal { head, events }
    }

    /// Announces intents. Returns whether the instance was a member before.
    pub(crate) fn announce(
        &mut self,
        now: Duration,
        instance: u64,
        timeout: Duration,
        intents: Vec<Intent>,
    ) -> bool {
        self.members.announce(now, instance, timeout, intents)
    }

    /// Clears the instance's intents whose writes have ended.
    pub(crate) fn reconcile(&mut self, instance: u64, open: &StillOpen) {
        self.members.reconcile(instance, open);
    }

    /// Removes a member, unless it leaves open writes behind: those a peer must finish.
    pub(crate) fn leave(&mut self, instance: u64, open: &StillOpen) {
        self.members.leave(instance, open);
    }

    /// Returns whether a verification has found it in this life of the server.
    pub(crate) fn is_verified_in(&self, run: u64) -> bool {
        let checked = self.counter.as_ref().and_then(|counter| counter.checked);
        checked.is_some_and(|checked| checked.run == Some(run))
    }

    /// Returns the position of the latest event; zero where the lane has no counter.
    pub(crate) fn head(&self) -> Position {
        match &self.counter {
            Some(counter) => Position {
                epoch: counter.epoch,
                sequence: counter.sequence,
            },
            None => Position {
                epoch: 0,
                sequence: 0,
            },
        }
    }

    fn append(&mut self, moment: &Moment, journal: u32, payload: Bytes) -> Published {
        let counter = self.counter.get_or_insert_with(|| Counter {
            epoch: moment.fresh_epoch,
            sequence: first_sequence(moment.now),
            first: first_sequence(moment.now),
            checked: None,
        });
        counter.sequence += 1;
        let last = self.journal.back().map_or(0, |(last, _)| *last);
        if journal > 0 && last >= counter.sequence {
            // The counter has gone back within its epoch, an older state of it was put back:
            // 1: this sequence was given to an event that instances have applied; 2: it is given to
            // this one, which in the same epoch they would take for that one and ignore.
            // The epoch is provisional: the next verification begins another.
            counter.epoch = moment.fresh_epoch;
            counter.first = counter.sequence - 1;
            if let Some(checked) = &mut counter.checked {
                checked.run = None;
            }
            self.journal.clear();
        }
        let position = Position {
            epoch: counter.epoch,
            sequence: counter.sequence,
        };
        if journal > 0 {
            self.journal.push_back((position.sequence, payload.clone()));
            while self.journal.len() > journal as usize {
                self.journal.pop_front();
            }
        }
        Published {
            lane: self.number,
            position,
            payload,
        }
    }
}

fn first_sequence(now: Duration) -> u64 {
    FIRST_SEQUENCE + u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 4)
}

/// What a server can lose.
#[cfg(any(test, feature = "test-util"))]
impl Lane {
    /// The last events never happened: the counter steps back, and the journal with it.
    pub(crate) fn forget(&mut self, events: u64) {
        if let Some(counter) = &mut self.counter {
            // A replica that lacks so many events has the epoch: none before it is lost with them.
            counter.sequence = counter.sequence.saturating_sub(events).max(counter.first);
            let head = counter.sequence;
            self.journal.retain(|(sequence, _)| *sequence <= head);
        }
    }

    /// The counter steps back within its epoch; the journal stays.
    pub(crate) fn set_back(&mut self, events: u64) {
        if let Some(counter) = &mut self.counter {
            counter.sequence = counter.sequence.saturating_sub(events);
        }
    }

    pub(crate) fn drop_counter(&mut self) {
        self.counter = None;
    }

    pub(crate) fn drop_journal(&mut self) {
        self.journal.clear();
    }

    pub(crate) fn drop_intents(&mut self) {
        self.members.drop_intents();
    }

    pub(crate) fn drop_members(&mut self) {
        self.members.drop_members();
    }
}
