//! Inbound: one lane's sequence, and what a verification proves. No I/O.
//!
//! Pub/sub makes invalidation fast; the sequence, the journal and the verification make it true.

mod hints;
mod repair;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::bus::Position;
use crate::event::Mac;
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;
use hints::Hints;

/// Verifications that wait for events to be applied. A subscriber that lags by more than this
/// many intervals is repaired from the journal long before.
const PENDING: usize = 16;

/// Numbers the rounds of verification of an instance, in the order they were sent.
pub(crate) type Round = u64;

/// Follows one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    /// Everything up to here is applied; `None` until a verification has been adopted.
    applied: Option<Position>,
    /// The highest sequence that the subscription itself has delivered in this epoch.
    heard: u64,
    /// Another life was heard of after a round was sent: only a later round can settle it.
    doubt: Option<Doubt>,
    /// The highest head of this epoch that a verification has named.
    top: u64,
    /// Verifications by the local time they were sent and the sequence they wait for.
    pending: VecDeque<(Nanos, u64)>,
    repair: Option<Repair>,
    repairs: u64,
    /// Events up to here came from the journal because the subscription was silent.
    silent_to: Option<u64>,
    strikes: u32,
    /// Rounds up to here were sent before the subscription's connection was lost.
    before_loss: Option<Round>,
    /// The round that was sent last, and what was applied then.
    asked: Option<(Round, Position)>,
    /// With a key: what the subscription has delivered and the journal has not confirmed.
    hints: Hints,
}

/// What a later verification has to settle.
///
/// It does not move with every message of the life that raised it, or a busy lane would never be adopted:
/// what is heard and dropped meanwhile is below the head that is adopted, and fenced, or above it, a
/// gap that the journal fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Doubt {
    /// The round that was sent last when it arose.
    since: Round,
    /// The epoch that was heard of; none where a place of the present one was taken twice.
    epoch: Option<u64>,
}

/// A repair under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    /// Tells this repair's reply from one that an adoption has made obsolete.
    pub(crate) number: u64,
    /// Read the journal after this sequence.
    pub(crate) after: u64,
    target: u64,
}

/// What a message is to this follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next one: apply it now.
    Next,
    /// Applied already.
    Duplicate,
    /// Events before it are missing: repair.
    Gap,
    /// An event of another life of the lane: verify.
    OtherEpoch,
    /// Nothing has been adopted yet: verify.
    NotAdopted,
}

/// What a verification's reply is to this follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It was sent before the doubt that it would have to settle.
    Outdated,
    /// The lane's continuity is unknown: the head was adopted, and the caller must fence *now*.
    Adopted { first: bool },
    /// Everything up to the head is applied.
    Current,
    /// Events up to the head are on their way, or lost.
    Behind,
}

/// What a page of the journal is to this follower.
#[derive(Debug)]
pub(crate) enum Repaired {
    /// An adoption came in between: ignore it.
    Obsolete,
    /// The missing events, in order: apply them now.
    Events {
        events: Vec<(u64, Bytes)>,
        done: bool,
    },
    /// They are gone. The head was adopted, and the caller must fence *now*.
    Fence,
    /// The lane has begun another epoch: verify.
    OtherEpoch,
}

impl Follower {
    /// A message has arrived; `sent` is the round that was sent last.
    pub(crate) fn hear(&mut self, position: Position, sent: Round) -> Heard {
        let heard = self.place(position, sent);
        if matches!(heard, Heard::Next | Heard::Duplicate | Heard::Gap) {
            self.alive(position.sequence);
        }
        if let (Heard::Next, Some(applied)) = (heard, &mut self.applied) {
            applied.sequence = position.sequence;
        }
        heard
    }

    /// As [`hear`](Self::hear), of a message that cannot be understood. A stranger may have sent
    /// it, with the sequence of an event that is yet to come and would then look old: at best it
    /// is a gap, and the journal knows what belongs there.
    pub(crate) fn hear_nonsense(&mut self, position: Position, sent: Round) -> Heard {
        match self.place(position, sent) {
            Heard::Next => Heard::Gap,
            other => other,
        }
    }

    /// The subscription has delivered an event.
    fn alive(&mut self, sequence: u64) {
        // Beyond the head that a verification has named, a message may claim any place.
        self.heard = self.heard.max(sequence.min(self.top));
        if self.silent_to.is_some_and(|silent| self.heard >= silent) {
            self.silent_to = None;
            self.strikes = 0;
        }
    }

    /// As [`hear`](Self::hear), where payloads are signed: the event is genuine, but the place it
    /// claims is not proven, for any client that may publish can play an old event again.
    ///
    /// So it never advances what is applied, which would let it hide the event whose place it
    /// takes; the caller applies it unless it is a duplicate, and every verification has the
    /// journal read from the last event it confirmed. `mac` is none for an event that may
    /// travel twice with the same bytes.
    pub(crate) fn hint(&mut self, position: Position, mac: Option<Mac>) -> Heard {
        let Some(applied) = self.applied else {
            return Heard::NotAdopted;
        };
        if position.epoch != applied.epoch {
            return Heard::OtherEpoch;
        }
        self.alive(position.sequence);
        if position.sequence <= applied.sequence {
            return Heard::Duplicate;
        }
        match mac {
            Some(mac) if !self.hints.insert(position.sequence, mac) => Heard::Duplicate,
            _ => Heard::Next,
        }
    }

    /// The subscription delivered something at this place, applied or not.
    pub(crate) fn delivered(&mut self, position: Position) {
        if self
            .applied
            .is_some_and(|applied| applied.epoch == position.epoch)
        {
            self.alive(position.sequence);
        }
    }

    /// Returns whether this very event was heard at this place, and the journal has not confirmed it yet.
    pub(crate) fn expects(&self, sequence: u64, mac: Mac) -> bool {
        self.hints.has(sequence, mac)
    }

    /// The journal has this event at `sequence`. Returns whether it was applied when it was heard there.
    pub(crate) fn confirm(&mut self, sequence: u64, mac: Option<Mac>) -> bool {
        self.hints
            .take(sequence)
            .is_some_and(|heard| mac == Some(heard))
    }

    /// The subscription's connection was lost; `sent` as in [`hear`](Self::hear).
    ///
    /// The next one may lead to another server, so what was learned before no longer proves anything.
    /// 1: the old primary answers a verification with head h; 2: its replica is promoted without
    /// h; 3: before any instance verifies there, another event gets the number h, in the same
    /// epoch; 4: it is heard here, and would prove that the lost event was applied.
    pub(crate) fn disconnected(&mut self, sent: Round) {
        self.before_loss = Some(sent);
        self.pending.clear();
    }

    fn place(&mut self, position: Position, sent: Round) -> Heard {
        let Some(applied) = self.applied else {
            return Heard::NotAdopted;
        };
        if position.epoch != applied.epoch {
            self.doubt_of(Some(position.epoch), sent);
            return Heard::OtherEpoch;
        }
        match position.sequence.checked_sub(applied.sequence) {
            None | Some(0) => Heard::Duplicate,
            Some(1) => Heard::Next,
            Some(_) if without(Mechanism::SequenceCheck) => Heard::Next,
            Some(_) => Heard::Gap,
        }
    }

    /// The verification of this round is sent now.
    pub(crate) fn ask(&mut self, round: Round) {
        self.asked = self.applied.map(|applied| (round, applied));
    }

    /// Returns whether this head, the answer to round `round`, is below what was applied when that was sent.
    ///
    /// Everything that is applied here was sequenced before, so the counter has gone back within its epoch (a
    /// key that was restored or copied, a host that was reverted): places that are taken here will be
    /// given to other events.
    fn went_back(&self, round: Round, head: Position) -> bool {
        let before = self.asked.filter(|(asked, _)| *asked == round);
        before.is_some_and(|(_, applied)| {
            applied.epoch == head.epoch && head.sequence < applied.sequence
        }) && !without(Mechanism::BackwardPositions)
    }

    /// Another event was heard in a place that is taken: only a verification of a later round than
    /// `sent`, whose head is adopted, settles that.
    pub(crate) fn distrust(&mut self, sent: Round) {
        self.doubt_of(None, sent);
    }

    fn doubt_of(&mut self, epoch: Option<u64>, since: Round) {
        if self.doubt.is_none_or(|doubt| doubt.epoch != epoch) {
            self.doubt = Some(Doubt { since, epoch });
        }
    }

    /// The reply to the verification of round `round`, sent at `sent_at`, has arrived.
    ///
    /// Adoption comes before the fence, and the fence after the reply:
    /// 1: a load reads an old row; 2: the row's event gets sequence h; 3: the reply with h arrives.
    /// A fence before 3 might precede 1 and spare the load, whose event is never applied here.
    pub(crate) fn learn(&mut self, round: Round, sent_at: Nanos, head: Position) -> Learned {
        if self.before_loss.is_some_and(|loss| round <= loss) {
            return Learned::Outdated;
        }
        let Some(applied) = self.applied else {
            return self.adopt(head);
        };
        if let Some(doubt) = self.doubt {
            return if round > doubt.since {
                self.adopt(head)
            } else {
                Learned::Outdated
            };
        }
        if head.epoch != applied.epoch || self.went_back(round, head) {
            return self.adopt(head);
        }
        self.top = self.top.max(head.sequence);
        // When full, the newest is left out: the oldest are closest to being proven.
        if self.pending.len() < PENDING {
            self.pending.push_back((sent_at, head.sequence));
        }
        if head.sequence <= applied.sequence {
            Learned::Current
        } else {
            Learned::Behind
        }
    }

    /// The reply to the first verification after an interruption has arrived. A subscription must be
    /// repaired up to there before that verification counts.
    pub(crate) fn learn_interrupted(&mut self, head: Position) {
        if without(Mechanism::OrderOfResubscription)
            && let Some(applied) = &mut self.applied
            && applied.epoch == head.epoch
        {
            applied.sequence = applied.sequence.max(head.sequence);
        }
    }

    fn adopt(&mut self, head: Position) -> Learned {
        let first = self.applied.replace(head).is_none();
        self.heard = head.sequence;
        self.top = head.sequence;
        self.doubt = None;
        self.pending.clear();
        self.repair = None;
        self.silent_to = None;
        self.hints = Hints::default();
        Learned::Adopted { first }
    }

    /// Returns the latest time of which every event published before is applied now.
    pub(crate) fn proven(&mut self) -> Option<Nanos> {
        let applied = self.applied?.sequence;
        let mut proven = None;
        while let Some((sent_at, _)) = self.pending.front().filter(|(_, head)| *head <= applied) {
            proven = Some(*sent_at);
            self.pending.pop_front();
        }
        proven
    }

    /// Everything up to here is applied, or about to be.
    pub(crate) fn applied(&self) -> Option<Position> {
        self.applied
    }

    /// Returns whether the server has events that are not applied here.
    pub(crate) fn behind(&self) -> bool {
        !self.pending.is_empty() || self.doubt.is_some() || self.applied.is_none()
    }
}

#[cfg(test)]
mod tests;
