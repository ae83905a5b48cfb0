//! What the server, the two instances and the messages between them are at one moment.

use super::limits::{Cut, Tier};

pub(super) type Version = u8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Position {
    pub(super) epoch: u8,
    pub(super) sequence: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    pub(super) position: Position,
    pub(super) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) epoch: u8,
    pub(super) upto: u8,
    pub(super) floor: u8,
    /// The latest invalidation of the key.
    pub(super) last: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) head: Position,
    /// In which life it was verified last.
    pub(super) verified_in: Option<u8>,
    pub(super) record: Option<Record>,
    pub(super) value: Option<Value>,
}

/// Where a read that found nothing in memory has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Asking,
    Answered(Position, Answer),
    /// What its value may be stored as.
    Loading(Option<Position>),
    Loaded(Option<Position>, Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Value(Version),
    Nothing,
    NoRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Load {
    pub(super) stage: Stage,
    /// Applied here before it asked.
    pub(super) applied: Position,
    pub(super) outdated: bool,
    /// The newest version whose invalidation was applied before it began.
    pub(super) wanted: Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) entry: Option<Version>,
    pub(super) applied: Option<Position>,
    /// The newest version whose invalidation has been applied, for the writer: acknowledged.
    pub(super) seen: Version,
    /// The version that was published when the last proven verification was sent.
    pub(super) verified: Version,
    /// What was published when a verification was sent, and the head it found.
    pub(super) asked: Option<(Version, Position)>,
    pub(super) load: Option<Load>,
    /// A value on its way to the server.
    pub(super) store: Option<Value>,
    pub(super) went_back: bool,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) database: Version,
    /// A commit that is to be published.
    pub(super) committed: Option<Version>,
    pub(super) published: Version,
    pub(super) server: Server,
    pub(super) replica: Server,
    pub(super) life: u8,
    pub(super) flushes: u8,
    pub(super) others: u8,
    pub(super) bypasses: u8,
    pub(super) epochs: u8,
    /// All messages, any of which may be heard at any time; version 0 is another key's.
    pub(super) messages: Vec<(Position, Version)>,
    pub(super) instances: [Instance; 2],
}

impl Server {
    pub(super) fn counting(&self, tier: &Tier) -> Option<Record> {
        self.record.filter(|record| {
            let whole = record.upto == self.head.sequence || tier.lacks(Cut::Hole);
            record.epoch == self.head.epoch && whole
        })
    }

    pub(super) fn publish(&mut self, names_the_key: bool) -> Position {
        self.head.sequence += 1;
        let Position { epoch, sequence } = self.head;
        if let Some(record) = &mut self.record
            && record.epoch == epoch
            && record.upto + 1 == sequence
        {
            record.upto = sequence;
            if names_the_key {
                record.last = sequence;
            }
        }
        self.head
    }

    pub(super) fn fetch(&self, tier: &Tier, life: u8) -> Answer {
        let sound = self.verified_in == Some(life) || tier.lacks(Cut::Sound);
        match (self.counting(tier).filter(|_| sound), self.value) {
            (None, _) => Answer::NoRecord,
            (Some(record), Some(value)) if record.counts(tier, value.position) => {
                Answer::Value(value.version)
            }
            _ => Answer::Nothing,
        }
    }

    pub(super) fn store(&mut self, tier: &Tier, value: Value) {
        let at = value.position;
        let newer = self.value.is_some_and(|old| {
            old.position.epoch == at.epoch && old.position.sequence > at.sequence
        });
        let counts = self
            .counting(tier)
            .is_some_and(|record| at.sequence <= self.head.sequence && record.counts(tier, at));
        if (counts && !newer) || tier.lacks(Cut::CheckedStore) {
            let position = if tier.lacks(Cut::CheckedStore) {
                self.head
            } else {
                at
            };
            self.value = Some(Value { position, ..value });
        }
    }
}

impl Record {
    pub(super) fn counts(&self, tier: &Tier, position: Position) -> bool {
        let newest = self.last.max(self.floor);
        position.epoch == self.epoch && (newest <= position.sequence || tier.lacks(Cut::Record))
    }
}

impl Instance {
    pub(super) fn drop_entry(&mut self) {
        self.entry = None;
        if let Some(load) = &mut self.load {
            load.outdated = true;
        }
    }

    pub(super) fn apply(&mut self, version: Version) {
        if version > 0 {
            self.drop_entry();
        }
        self.seen = self.seen.max(version);
    }

    /// The read ends with this version. Returns whether it is kept.
    pub(super) fn land(&mut self, load: Load, version: Version, tier: &Tier) -> bool {
        self.load = None;
        self.went_back |= version < load.wanted;
        let kept = !load.outdated || tier.lacks(Cut::Token);
        if kept {
            self.entry = Some(version);
        }
        kept
    }

    pub(super) fn prove(&mut self) {
        if let (Some((due, head)), Some(applied)) = (self.asked, self.applied)
            && head.epoch == applied.epoch
            && head.sequence <= applied.sequence
        {
            self.verified = self.verified.max(due);
            self.asked = None;
        }
    }
}
