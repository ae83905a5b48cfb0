//! A lane's part of the shared tier, as a server keeps it: values, claims, and the record of
//! invalidations that decides which of them count. The same rules as in the scripts over Redis.

#![cfg_attr(not(feature = "shared"), allow(dead_code, reason = "nobody asks"))]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::bus::shared::{
    ClaimId, Fetch, Fetched, Found, HEAD, Head, Name, Put, RECORD, RECORD_CACHES, Stored, Subject,
};
use crate::bus::{MAX_PAYLOAD, Position};
use crate::event::{Event, Mac, What, decode};
use crate::without::{Mechanism, without};

/// What the server adds to its time to get the milliseconds of its clock.
const EPOCH_MILLIS: u64 = 1_750_000_000_000;

/// Values that are held at most: each fetch looks through them for those that have ended.
const VALUES: usize = 4_096;

/// What an invalidation named. Ordered, so that ties are evicted in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Named {
    Key(u32, u32, u64),
    Tag(u32, u32, u64),
    Cache(u32),
}

/// The latest invalidations of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Record {
    epoch: u64,
    /// Everything up to here has been recorded: if the lane's head is another, there is a hole.
    upto: u64,
    /// Nothing below counts.
    floor: u64,
    last: BTreeMap<Named, u64>,
    by_age: BTreeSet<(u64, Named)>,
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

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tier {
    signs: Signs,
    record: Option<Record>,
    values: BTreeMap<Name, Value>,
    claims: BTreeMap<Name, Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Value {
    head: Head,
    body: Bytes,
    forget: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    id: ClaimId,
    position: Position,
    lapses: u64,
}

pub(super) fn millis(now: Duration) -> u64 {
    EPOCH_MILLIS + u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 4)
}

impl Tier {
    /// A member that uses the tier verifies: the record is begun, or begun again after a hole.
    pub(super) fn begin(&mut self, head: Position, signs: Signs) {
        self.signs = signs;
        if self.counting(head).is_none() {
            self.record = Some(Record {
                epoch: head.epoch,
                upto: head.sequence,
                floor: head.sequence,
                last: BTreeMap::new(),
                by_age: BTreeSet::new(),
                formats: BTreeMap::new(),
            });
        }
    }

    /// Whether the record has events of this epoch beyond its head: the counter went back.
    pub(super) fn is_beyond(&self, head: Position) -> bool {
        let record = self.record.as_ref();
        record.is_some_and(|record| record.epoch == head.epoch && record.upto > head.sequence)
    }

    /// Everything is forgotten that came after the lane's head stepped back to this sequence.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn forget(&mut self, head: u64) {
        if let Some(record) = &mut self.record {
            record.upto = record.upto.min(head);
            record.last.retain(|_, sequence| *sequence <= head);
            record.by_age.retain(|(sequence, _)| *sequence <= head);
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_record(&mut self) {
        self.record = None;
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn drop_values(&mut self) {
        self.values.clear();
        self.claims.clear();
    }

    /// The record, if it covers the lane up to its head.
    fn counting(&self, head: Position) -> Option<&Record> {
        let record = self.record.as_ref()?;
        (record.epoch == head.epoch && record.upto == head.sequence).then_some(record)
    }

    /// An event has been given this position.
    pub(super) fn remember(&mut self, position: Position, payload: &[u8]) {
        let Some(record) = &mut self.record else {
            return;
        };
        if record.epoch == position.epoch && record.upto + 1 == position.sequence {
            record.remember(position.sequence, payload, self.signs);
        } else {
            // A hole is mended by the next verification only; until then nothing counts, also if a
            // counter that was set back comes to the same sequence again.
            self.record = None;
        }
    }

    pub(super) fn fetch(
        &mut self,
        head: Position,
        sound: bool,
        now: u64,
        fetch: &Fetch,
    ) -> Fetched {
        self.values.retain(|_, value| value.forget > now);
        self.claims.retain(|_, claim| claim.lapses > now);
        let found = if sound {
            self.find(head, now, fetch)
        } else {
            Found::NoRecord
        };
        Fetched { head, now, found }
    }

    fn find(&mut self, head: Position, now: u64, fetch: &Fetch) -> Found {
        let Some(record) = self.counting(head) else {
            return Found::NoRecord;
        };
        let value = self.values.get(&fetch.name);
        if let Some(Value { head, body, .. }) = value
            && record.counts(fetch.subject, &head.tags, head.position)
            && young(head, now, fetch)
        {
            return Found::Value([&head.encode()[..], body].concat().into());
        }
        let digest = value.map(|value| value.head.digest);
        let Some(claim) = fetch.claim else {
            return Found::Nothing(digest);
        };
        let held = self.claims.get(&fetch.name);
        if held.is_some_and(|held| {
            held.id != claim.id && record.counts(fetch.subject, &[], held.position)
        }) {
            return Found::Claimed;
        }
        let (id, lapses) = (claim.id, now + claim.millis);
        let held = Held {
            id,
            position: head,
            lapses,
        };
        self.claims.insert(fetch.name, held);
        Found::Nothing(digest)
    }

    pub(super) fn put(&mut self, head: Position, put: Put) -> Stored {
        let stored = self.place(head, &put);
        if stored != Stored::BodyNeeded
            && let Some(id) = put.claim
        {
            self.release(&put.name, id);
        }
        stored
    }

    fn place(&mut self, head: Position, put: &Put) -> Stored {
        let counts = |record: &Record| {
            put.head.position.sequence <= head.sequence
                && record.counts(put.subject, &put.head.tags, put.head.position)
        };
        let old = self.values.get(&put.name);
        let newer = old.is_some_and(|old| {
            old.head.position.epoch == put.head.position.epoch
                && old.head.position.sequence > put.head.position.sequence
        });
        if newer || !self.counting(head).is_some_and(counts) {
            return Stored::Refused;
        }
        let (body, stored) = match (&put.body, old) {
            (Some(body), _) => (body.clone(), Stored::Written),
            (None, Some(old)) if old.head.digest == put.head.digest => {
                (old.body.clone(), Stored::Renewed)
            }
            (None, _) => return Stored::BodyNeeded,
        };
        let value = Value {
            head: put.head.clone(),
            body,
            forget: put.forget,
        };
        if old.is_none() && self.values.len() >= VALUES {
            // One process has little use for a second copy of what it loads.
            return Stored::Refused;
        }
        self.values.insert(put.name, value);
        stored
    }

    pub(super) fn release(&mut self, name: &Name, id: ClaimId) {
        if self.claims.get(name).is_some_and(|held| held.id == id) {
            self.claims.remove(name);
        }
    }

    /// Bytes a value takes on the wire, about.
    pub(super) fn size(found: &Found) -> usize {
        match found {
            Found::Value(bytes) => bytes.len(),
            Found::Nothing(_) | Found::Claimed | Found::NoRecord => HEAD,
        }
    }
}

/// Whether it is neither past the part of its life that is asked for, nor within the margin of its end.
fn young(head: &Head, now: u64, fetch: &Fetch) -> bool {
    let life = head.expires.saturating_sub(head.born);
    let age = u128::from(now.saturating_sub(head.born));
    let margin = fetch.margin.min(life / 2);
    age * 1_000 < u128::from(life) * u128::from(fetch.part)
        && now.saturating_add(margin) < head.expires
}

impl Record {
    /// Whether what has seen everything up to `position` has seen all that concerns it.
    fn counts(&self, subject: Subject, tags: &[u64], position: Position) -> bool {
        // What is beyond was stored before the counter went back.
        if position.sequence > self.upto {
            return false;
        }
        let Subject {
            cache,
            format,
            hash,
        } = subject;
        let named = [Named::Key(cache, format, hash), Named::Cache(cache)];
        let tags = tags.iter().map(|tag| Named::Tag(cache, format, *tag));
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

    /// The latest event of the cache in another format than this one.
    fn other_format(&self, cache: u32, format: u32) -> u64 {
        self.formats.get(&cache).map_or(0, |last| {
            if last.format == format {
                last.others
            } else {
                last.sequence
            }
        })
    }

    fn remember(&mut self, sequence: u64, payload: &[u8], signs: Signs) {
        self.upto = sequence;
        let Some(Event { ops, .. }) = event_of(payload, signs) else {
            return self.raise(sequence);
        };
        for op in &ops {
            let (cache, format) = (op.cache, op.format);
            match &op.what {
                What::Keys(hashes) => {
                    for hash in hashes {
                        self.note(Named::Key(cache, format, *hash), sequence);
                    }
                }
                What::Tags(tags) => {
                    for tag in tags {
                        self.note(Named::Tag(cache, format, *tag), sequence);
                    }
                }
                What::Cache => self.note(Named::Cache(cache), sequence),
                What::Lane => return self.raise(sequence),
            }
            self.note_format(cache, format, sequence);
        }
        if self.formats.len() > RECORD_CACHES {
            return self.raise(sequence);
        }
        while self.last.len() > RECORD {
            if let Some((oldest, named)) = self.by_age.pop_first() {
                self.last.remove(&named);
                self.floor = self.floor.max(oldest);
            }
        }
    }

    fn note(&mut self, named: Named, sequence: u64) {
        if let Some(before) = self.last.insert(named, sequence) {
            self.by_age.remove(&(before, named));
        }
        self.by_age.insert((sequence, named));
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

/// What a payload says, its signature aside; `None` for what readers refuse.
fn event_of(payload: &[u8], signs: Signs) -> Option<Event> {
    let event = match signs {
        Signs::Yes => payload.split_last_chunk::<{ size_of::<Mac>() }>()?.0,
        Signs::No => payload,
    };
    (payload.len() <= MAX_PAYLOAD).then_some(())?;
    decode(event).ok()
}

#[cfg(test)]
mod tests;
