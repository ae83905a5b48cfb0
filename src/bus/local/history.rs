//! The history of a lane's invalidations, by which a server decides whether a value of the shared tier
//! still counts. The same rules as in the scripts over Redis.

#![cfg_attr(
    not(feature = "shared"),
    allow(dead_code, reason = "used only with feature `shared`")
)]

use std::collections::{BTreeMap, BTreeSet};

use crate::bus::Position;
use crate::bus::tier::{HISTORY, HISTORY_CACHES, Subject};
use crate::event::{Event, MAX_PAYLOAD, Mac, What, decode};
use crate::mutants::{Mechanism, without};

/// What an invalidation named. Ordered, so that ties are evicted in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Invalidation {
    Key(u32, u32, u64),
    Tag(u32, u32, u64),
    Cache(u32),
}

/// The latest invalidations of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    epoch: u64,
    /// Everything up to here is covered: if the lane's head is another, there is a hole.
    upto: u64,
    /// Nothing below counts.
    floor: u64,
    last: BTreeMap<Invalidation, u64>,
    by_age: BTreeSet<(u64, Invalidation)>,
    formats: BTreeMap<u32, Format>,
}

/// The format of the keys in the latest event of a cache, where that event is, and the latest event
/// of any other format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Format {
    format: u32,
    sequence: u64,
    others: u64,
}

/// Whether a MAC follows every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Signs {
    #[default]
    No,
    Yes,
}

impl History {
    /// Begins at a lane's head.
    pub(super) fn begin(head: Position) -> Self {
        Self {
            epoch: head.epoch,
            upto: head.sequence,
            floor: head.sequence,
            last: BTreeMap::new(),
            by_age: BTreeSet::new(),
            formats: BTreeMap::new(),
        }
    }

    /// Returns whether it covers the lane up to this head.
    pub(super) fn covers(&self, head: Position) -> bool {
        self.epoch == head.epoch && self.upto == head.sequence
    }

    /// Returns whether it has events of this epoch beyond the head: the counter went back.
    pub(super) fn is_beyond(&self, head: Position) -> bool {
        self.epoch == head.epoch && self.upto > head.sequence
    }

    /// Returns whether this is the place of the event that follows the last one.
    pub(super) fn precedes(&self, position: Position) -> bool {
        self.epoch == position.epoch && self.upto + 1 == position.sequence
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// Everything is forgotten that came after this sequence.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn forget(&mut self, head: u64) {
        self.upto = self.upto.min(head);
        self.last.retain(|_, sequence| *sequence <= head);
        self.by_age.retain(|(sequence, _)| *sequence <= head);
    }

    /// Returns whether what has seen everything up to `position` has seen all that concerns it.
    pub(super) fn counts(&self, subject: Subject, tags: &[u64], position: Position) -> bool {
        // What is beyond was stored before the counter went back.
        if position.sequence > self.upto {
            return false;
        }
        let Subject {
            cache,
            format,
            hash,
        } = subject;
        let named = [
            Invalidation::Key(cache, format, hash),
            Invalidation::Cache(cache),
        ];
        let tags = tags
            .iter()
            .map(|tag| Invalidation::Tag(cache, format, *tag));
        let newest = named
            .into_iter()
            .chain(tags)
            .filter_map(|named| self.last.get(&named).copied())
            .chain([self.floor, self.other_format(cache, format)])
            .max();
        if without(Mechanism::SharedRecord) {
            return position.epoch == self.epoch;
        }
        position.epoch == self.epoch && newest <= Some(position.sequence)
    }

    /// Returns the latest event of the cache in another format than this one.
    fn other_format(&self, cache: u32, format: u32) -> u64 {
        self.formats.get(&cache).map_or(0, |last| {
            if last.format == format {
                last.others
            } else {
                last.sequence
            }
        })
    }

    /// Adds an event.
    pub(super) fn remember(&mut self, sequence: u64, payload: &[u8], signs: Signs) {
        self.upto = sequence;
        let Some(Event { ops, .. }) = event_of(payload, signs) else {
            return self.raise(sequence);
        };
        for op in &ops {
            let (cache, format) = (op.cache, op.format);
            match &op.what {
                What::Keys(hashes) => {
                    for hash in hashes {
                        self.note(Invalidation::Key(cache, format, *hash), sequence);
                    }
                }
                What::Tags(tags) => {
                    for tag in tags {
                        self.note(Invalidation::Tag(cache, format, *tag), sequence);
                    }
                }
                What::Cache => self.note(Invalidation::Cache(cache), sequence),
                What::Lane => return self.raise(sequence),
            }
            self.note_format(cache, format, sequence);
        }
        if self.formats.len() > HISTORY_CACHES {
            return self.raise(sequence);
        }
        while self.last.len() > HISTORY {
            if let Some((oldest, named)) = self.by_age.pop_first() {
                self.last.remove(&named);
                self.floor = self.floor.max(oldest);
            }
        }
    }

    fn note(&mut self, invalidation: Invalidation, sequence: u64) {
        if let Some(before) = self.last.insert(invalidation, sequence) {
            self.by_age.remove(&(before, invalidation));
        }
        self.by_age.insert((sequence, invalidation));
    }

    fn note_format(&mut self, cache: u32, format: u32, sequence: u64) {
        let last = self.formats.entry(cache).or_insert(Format {
            format,
            sequence,
            others: 0,
        });
        if last.format != format {
            last.others = last.others.max(last.sequence);
            last.format = format;
        }
        last.sequence = sequence;
    }

    /// Nothing below this sequence counts.
    fn raise(&mut self, sequence: u64) {
        self.floor = sequence;
        self.last.clear();
        self.by_age.clear();
        self.formats.clear();
    }
}

/// Returns what a payload says, its signature aside; `None` for what readers refuse.
fn event_of(payload: &[u8], signs: Signs) -> Option<Event> {
    let event = match signs {
        Signs::Yes => payload.split_last_chunk::<{ size_of::<Mac>() }>()?.0,
        Signs::No => payload,
    };
    (payload.len() <= MAX_PAYLOAD).then_some(())?;
    decode(event).ok()
}
