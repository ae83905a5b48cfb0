//! Reads one lane's journal, and finds what drops a key in it.

use std::collections::{BTreeSet, VecDeque};

use crate::Error;
use crate::bus::redis::inspect::Server;
use crate::bus::redis::inspect::journal::{Entry, Start};
use crate::event::{NO_ORIGIN, Op, Seal, What};

/// Entries of one journal that are read at most, the latest: the longest journal of the settings, and what Redis
/// may keep beyond it.
const MOST_ENTRIES: u64 = 1_001_000;

/// Events that are kept at most, the latest; the others are counted.
pub(super) const KEPT: usize = 256;

/// How far a journal reaches back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Events that were read.
    pub events: u64,
    /// Sequences of the oldest and of the latest; `None` where there is none.
    pub ends: Option<(u64, u64)>,
    /// Whether it has lost no event at its old end since the epoch began.
    pub whole: bool,
    /// Events between the oldest one and the lane's latest that it has not.
    pub missing: u64,
    /// Whether another epoch began while it was read.
    pub moved: bool,
}

/// An event that drops the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its lane.
    pub lane: u32,
    /// Its number in the lane.
    pub sequence: u64,
    /// The instance that published it; `None` where it names none.
    pub origin: Option<u64>,
    /// By what it drops the key.
    pub by: Vec<By>,
}

/// By what an event drops the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// It names the key.
    Key,
    /// It names this tag.
    Tag(u64),
    /// It names the whole cache.
    Cache,
    /// It names the cache with this format of keys: where keys have another one, the whole cache is dropped.
    Format(u32),
    /// It names everything of the lane.
    Lane,
    /// It cannot be read with these settings, for this reason: where it cannot, the whole lane is dropped.
    Unreadable(String),
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) cache: u32,
    pub(super) key: u64,
    pub(super) tags: BTreeSet<u64>,
    /// The formats that the cache's keys have; none where that is not known.
    pub(super) formats: BTreeSet<u32>,
}

impl Asked {
    /// By what an operation drops the key; nothing where it does not.
    fn by(&self, op: &Op) -> Vec<By> {
        if op.what == What::Lane {
            return vec![By::Lane];
        }
        if op.cache != self.cache {
            return Vec::new();
        }
        let mut by = match &op.what {
            What::Keys(keys) if keys.contains(&self.key) => vec![By::Key],
            What::Tags(tags) => {
                let of_these = self.tags.iter().filter(|tag| tags.contains(tag));
                of_these.copied().map(By::Tag).collect()
            }
            What::Cache => vec![By::Cache],
            What::Keys(_) | What::Lane => Vec::new(),
        };
        if op.what != What::Cache && self.formats.iter().any(|format| *format != op.format) {
            by.push(By::Format(op.format));
        }
        by
    }
}

/// Reads a journal from its old end to the lane's latest event.
pub(super) struct Reader<'a> {
    lane: u32,
    asked: &'a Asked,
    seal: &'a Seal,
    pub(super) reach: Reach,
    /// The latest [`KEPT`].
    pub(super) found: VecDeque<Found>,
    /// All that drop the key.
    pub(super) count: u64,
    /// Those that name the cache.
    pub(super) of_cache: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lane: u32, asked: &'a Asked, seal: &'a Seal) -> Self {
        Self {
            lane,
            asked,
            seal,
            reach: Reach::default(),
            found: VecDeque::new(),
            count: 0,
            of_cache: 0,
        }
    }

    /// Reads it; returns epoch and sequence of the lane's latest event as they were at the beginning.
    pub(super) async fn read(&mut self, server: &Server) -> Result<Option<(u64, u64)>, Error> {
        let Some((epoch, latest)) = server.head(self.lane).await? else {
            return Ok(None);
        };
        let first = latest.saturating_sub(MOST_ENTRIES).max(1);
        let start = Start::At(first);
        let mut page = server.journal_page(self.lane, start, latest).await?;
        let mut read = 0;
        while let Some(last) = page.last() {
            for entry in &page {
                self.take(entry);
            }
            read += page.len() as u64;
            if last.sequence >= latest || read >= MOST_ENTRIES {
                break;
            }
            let start = Start::Behind(last);
            page = server.journal_page(self.lane, start, latest).await?;
        }
        self.reach.missing = match self.reach.ends {
            Some((oldest, _)) => (latest - oldest + 1).saturating_sub(self.reach.events),
            None => 0,
        };
        // At last, so that nothing which was removed meanwhile is taken for there.
        self.reach.whole = server.journal_is_whole(self.lane).await?;
        self.reach.moved = server.head(self.lane).await?.map(|head| head.0) != Some(epoch);
        Ok(Some((epoch, latest)))
    }

    fn take(&mut self, entry: &Entry) {
        let sequence = entry.sequence;
        let oldest = self.reach.ends.map_or(sequence, |(oldest, _)| oldest);
        self.reach.ends = Some((oldest, sequence));
        self.reach.events += 1;
        let payload = entry.payload.as_deref().unwrap_or_default();
        let (origin, by) = match self.seal.decode(self.lane, payload) {
            Ok((event, _)) => {
                let of_cache = |op: &Op| op.what != What::Lane && op.cache == self.asked.cache;
                self.of_cache += u64::from(event.ops.iter().any(of_cache));
                let mut by: Vec<By> = Vec::new();
                for reason in event.ops.iter().flat_map(|op| self.asked.by(op)) {
                    if !by.contains(&reason) {
                        by.push(reason);
                    }
                }
                ((event.origin != NO_ORIGIN).then_some(event.origin), by)
            }
            Err(why) => (None, vec![By::Unreadable(why.to_string())]),
        };
        if by.is_empty() {
            return;
        }
        self.count += 1;
        if self.found.len() == KEPT {
            self.found.pop_front();
        }
        self.found.push_back(Found {
            lane: self.lane,
            sequence,
            origin,
            by,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(cache: u32, format: u32, what: What) -> Op {
        Op {
            cache,
            format,
            what,
        }
    }

    fn asked(formats: &[u32]) -> Asked {
        Asked {
            cache: 7,
            key: 42,
            tags: BTreeSet::from([1, 2]),
            formats: formats.iter().copied().collect(),
        }
    }

    #[test]
    fn an_operation_drops_a_key_by_what_it_names() {
        let keys = |keys: &[u64]| What::Keys(keys.to_vec());
        let tags = |tags: &[u64]| What::Tags(tags.to_vec());
        for (op, expected) in [
            (op(7, 1, keys(&[41, 42])), vec![By::Key]),
            (op(7, 1, keys(&[41])), vec![]),
            (op(8, 1, keys(&[42])), vec![]),
            (op(7, 1, tags(&[3, 2, 1])), vec![By::Tag(1), By::Tag(2)]),
            (op(7, 1, tags(&[42])), vec![]),
            (op(7, 1, What::Cache), vec![By::Cache]),
            (op(7, 9, What::Cache), vec![By::Cache]),
            (op(8, 1, What::Cache), vec![]),
            (op(7, 9, keys(&[41])), vec![By::Format(9)]),
            (op(7, 9, tags(&[1])), vec![By::Tag(1), By::Format(9)]),
            (Op::lane(), vec![By::Lane]),
        ] {
            assert_eq!(asked(&[1]).by(&op), expected, "{op:?}");
        }
        // Where the format is not known, no format is another.
        assert_eq!(asked(&[]).by(&op(7, 9, keys(&[41]))), []);
    }

    #[test]
    fn only_the_latest_are_kept_and_all_are_counted() {
        let (asked, seal) = (asked(&[1]), Seal::new(&crate::Settings::default()));
        let mut reader = Reader::new(0, &asked, &seal);
        let event = crate::event::Event {
            origin: 5,
            sent: 1,
            ops: vec![op(7, 1, What::Keys(vec![42, 43])), op(7, 1, What::Cache)],
        };
        let payload = seal.encode(0, &event);
        let most = 2 * KEPT as u64;
        for sequence in 1..=most {
            reader.take(&Entry::of(sequence, Some(&payload)));
        }
        reader.take(&Entry::of(most + 1, None));
        assert_eq!(reader.count, most + 1);
        assert_eq!(reader.of_cache, most);
        assert_eq!(reader.reach.ends, Some((1, most + 1)));
        assert_eq!(reader.found.len(), KEPT);
        let last = reader.found.pop_back().expect("the one without an event");
        assert!(matches!(last.by[..], [By::Unreadable(_)]), "{last:?}");
        let last = reader.found.pop_back().expect("the one before");
        assert_eq!((last.sequence, last.origin), (most, Some(5)));
        assert_eq!(last.by, [By::Key, By::Cache]);
    }
}
