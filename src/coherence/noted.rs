//! What an instance notes of each invalidation that it has applied: see [`recent`](crate::coherence::recent).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::coherence::listeners::Reported;
use crate::coherence::member::Member;
use crate::coherence::outbox::Invalidation;
use crate::coherence::recent::{Applied, Named, Sender};
use crate::contain::contained;
use crate::event::{NO_ORIGIN, Op, What};
use crate::identity::InstanceId;
use crate::metrics::Fence;
use crate::store::stamps::lane_of;

impl Member {
    /// Notes an operation that was applied.
    pub(super) fn note_op(&self, lane: u32, from: Sender, op: &Op) {
        let at = self.clock.now();
        let note = |named| {
            self.note(Applied {
                cache: op.cache,
                named,
                lane: Some(lane),
                origin: (from.origin != NO_ORIGIN).then(|| InstanceId::new(from.origin)),
                position: from.position,
                at,
            });
        };
        match &op.what {
            What::Lane => self.note_lane(lane, Some(from), Fence::Requested),
            What::Cache => note(Named::Cache),
            // Hashes of another format have dropped the whole cache.
            _ if !self.has_format(op.cache, op.format) => note(Named::Cache),
            What::Keys(hashes) => hashes.iter().for_each(|hash| note(Named::Key(*hash))),
            What::Tags(hashes) => hashes.iter().for_each(|hash| note(Named::Tag(*hash))),
        }
    }

    pub(super) fn note_lane(&self, lane: u32, from: Option<Sender>, cause: Fence) {
        let origin = from.map_or(NO_ORIGIN, |from| from.origin);
        self.note(Applied {
            cache: 0,
            named: Named::Lane(cause),
            lane: Some(lane),
            origin: (origin != NO_ORIGIN).then(|| InstanceId::new(origin)),
            position: from.and_then(|from| from.position),
            at: self.clock.now(),
        });
    }

    /// Notes an own operation that was applied a second time, where that drops more than the first time.
    pub(super) fn note_echo(&self, lane: u32, own: Sender, op: &Op) {
        let named = match op.what {
            What::Keys(_) | What::Tags(_) => return,
            What::Cache => Named::Cache,
            What::Lane => Named::Lane(Fence::Requested),
        };
        self.recent.note(Applied {
            cache: op.cache,
            named,
            lane: Some(lane),
            origin: Some(self.name()),
            position: own.position,
            at: self.clock.now(),
        });
    }

    /// Notes what this instance has invalidated and dropped here. Its place is not known yet.
    pub(crate) fn note_own(&self, items: &[Invalidation]) {
        let at = self.clock.now();
        for item in items {
            let (named, lane) = match *item {
                Invalidation::Key { hash, .. } => {
                    (Named::Key(hash), Some(lane_of(hash, self.lane_count())))
                }
                Invalidation::Tag { tag, .. } => (Named::Tag(tag), None),
                Invalidation::Cache { .. } => (Named::Cache, None),
            };
            self.note(Applied {
                cache: item.cache(),
                named,
                lane,
                origin: Some(self.name()),
                position: None,
                at,
            });
        }
    }

    /// After it is applied: a receiver that hears of it finds nothing here that is older.
    fn note(&self, applied: Applied) {
        self.recent.note(applied);
        self.listeners.report(|| {
            let cache = self.caches.get(applied.cache);
            let name = cache.as_ref().map(|cache| Arc::from(cache.name()));
            // It may be the last handle.
            contained(|| drop(cache));
            Reported {
                applied,
                cache: name,
            }
        });
    }

    fn has_format(&self, cache: u32, format: u32) -> bool {
        let cache = self.caches.get(cache);
        let same = cache.as_ref().is_some_and(|cache| cache.format() == format);
        // It may be the last handle.
        contained(|| drop(cache));
        same
    }
}
