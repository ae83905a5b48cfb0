//! The invalidations that were applied last: by them an explanation says why a key was loaded again.
//!
//! Written where an invalidation is applied and where a lane is dropped; a hit neither writes nor reads it.

use std::collections::VecDeque;

use crate::bus::Position;
use crate::identity::InstanceId;
use crate::lock::Lock;
use crate::metrics::Fence;
use crate::store::stamps::lane_of;
use crate::time::Nanos;

/// Operations that are kept of each lane, 80 bytes each: 80 KiB a lane once that many were applied, and nothing
/// before. At 100 invalidations a second the last ten seconds.
const KEPT: usize = 1_024;

/// What an invalidation named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// One key of the cache, by its hash.
    Key(u64),
    /// All entries of the cache with a tag, by the tag's hash.
    Tag(u64),
    /// All entries of the cache.
    Cache,
    /// All entries of the lane, of every cache, for this reason.
    Lane(Fence),
}

/// Where an event comes from: the instance that published it, or [`NO_ORIGIN`](crate::event::NO_ORIGIN), and its place where that is proven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) origin: u64,
    pub(crate) position: Option<Position>,
}

/// One invalidation that was applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The cache's id; 0 for a lane.
    pub(crate) cache: u32,
    pub(crate) named: Named,
    /// The lane that it came in; None for an own tag or cache, which concerns every lane.
    pub(crate) lane: Option<u32>,
    /// The instance that invalidated; None where no instance is known to have: a writer died, or the lane was dropped by the
    /// protocol.
    pub(crate) origin: Option<InstanceId>,
    /// Its place in its lane; None where it has none yet, as an own one, or where the place is not proven.
    pub(crate) position: Option<Position>,
    pub(crate) at: Nanos,
}

impl Applied {
    /// Returns whether it concerns a key of a cache, whose value has these tags.
    fn concerns(&self, cache: u32, key: u64, tags: &[u64], same_lane: bool) -> bool {
        match self.named {
            Named::Key(hash) => self.cache == cache && hash == key,
            Named::Tag(tag) => self.cache == cache && tags.contains(&tag),
            Named::Cache => self.cache == cache,
            Named::Lane(_) => same_lane,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Recent(Box<[Lock<OfLane>]>);

#[derive(Debug)]
struct OfLane {
    /// The oldest first.
    applied: VecDeque<Applied>,
    /// All that was applied after this moment is there.
    since: Nanos,
}

impl Recent {
    /// From `now` on.
    pub(crate) fn new(lanes: u32, now: Nanos) -> Self {
        let lane = || OfLane {
            applied: VecDeque::new(),
            since: now,
        };
        Self((0..lanes).map(|_| Lock::new(lane())).collect())
    }

    /// Notes what was applied.
    pub(crate) fn note(&self, applied: Applied) {
        let lane = applied.lane.unwrap_or(0);
        let mut lane = self.0[lane as usize].lock();
        if lane.applied.len() >= KEPT
            && let Some(oldest) = lane.applied.pop_front()
        {
            lane.since = oldest.at;
        }
        lane.applied.push_back(applied);
    }

    /// Returns the last invalidation that concerned a key of a cache, whose value has these tags.
    pub(crate) fn last_for(&self, cache: u32, key: u64, tags: &[u64]) -> Option<Applied> {
        let own = lane_of(key, self.0.len() as u32);
        let last = |(index, lane): (u32, &Lock<OfLane>)| {
            let lane = lane.lock();
            let mut newest = lane.applied.iter().rev();
            newest
                .find(|applied| applied.concerns(cache, key, tags, index == own))
                .copied()
        };
        // A tag or a cache concerns every lane, whichever brings it first.
        let lanes = (0..).zip(&self.0);
        lanes.filter_map(last).max_by_key(|applied| applied.at)
    }

    /// Returns how many are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|lane| lane.lock().applied.len()).sum()
    }

    /// Returns since when every invalidation is known.
    pub(crate) fn since(&self) -> Nanos {
        let lanes = self.0.iter().map(|lane| lane.lock().since);
        lanes.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(cache: u32, named: Named, lane: u32, at: Nanos) -> Applied {
        Applied {
            cache,
            named,
            lane: Some(lane),
            origin: Some(InstanceId::new(at)),
            position: Some(Position {
                epoch: 1,
                sequence: at,
            }),
            at,
        }
    }

    fn at(recent: &Recent, cache: u32, key: u64, tags: &[u64]) -> Option<Nanos> {
        recent.last_for(cache, key, tags).map(|applied| applied.at)
    }

    #[test]
    fn an_entry_takes_the_memory_that_is_counted() {
        assert!(size_of::<Applied>() <= 80, "{}", size_of::<Applied>());
    }

    #[test]
    fn a_key_finds_the_last_that_names_it_its_tags_its_cache_or_its_lane() {
        let recent = Recent::new(2, 1);
        assert_eq!((at(&recent, 7, 4, &[]), recent.since()), (None, 1));
        recent.note(applied(7, Named::Key(4), 0, 10));
        recent.note(applied(7, Named::Key(6), 0, 11));
        recent.note(applied(8, Named::Key(4), 0, 12));
        assert_eq!(at(&recent, 7, 4, &[]), Some(10));
        recent.note(applied(7, Named::Tag(50), 0, 13));
        assert_eq!(at(&recent, 7, 4, &[]), Some(10));
        assert_eq!(at(&recent, 7, 4, &[49, 50]), Some(13));
        recent.note(applied(7, Named::Cache, 0, 14));
        assert_eq!(at(&recent, 7, 4, &[50]), Some(14));
        assert_eq!(at(&recent, 8, 4, &[50]), Some(12));
        recent.note(applied(0, Named::Lane(Fence::Gap), 0, 15));
        assert_eq!(at(&recent, 8, 4, &[]), Some(15));
        assert_eq!(recent.since(), 1);
    }

    #[test]
    fn a_dropped_lane_concerns_its_own_keys_and_a_tag_those_of_every_lane() {
        let recent = Recent::new(2, 1);
        recent.note(applied(0, Named::Lane(Fence::Epoch), 1, 10));
        assert_eq!(
            (at(&recent, 7, 4, &[]), at(&recent, 7, 5, &[])),
            (None, Some(10))
        );
        recent.note(applied(7, Named::Tag(50), 1, 11));
        assert_eq!(at(&recent, 7, 4, &[50]), Some(11));
        let own = Applied {
            lane: None,
            ..applied(7, Named::Cache, 0, 12)
        };
        recent.note(own);
        assert_eq!(recent.last_for(7, 5, &[]), Some(own));
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_record_says_how_far_it_reaches() {
        let recent = Recent::new(2, 1);
        let kept = KEPT as u64;
        for n in 1..=kept + 5 {
            recent.note(applied(7, Named::Key(2 * n), 0, n));
        }
        recent.note(applied(7, Named::Key(1), 1, 1));
        assert_eq!(recent.since(), 5);
        assert_eq!(at(&recent, 7, 10, &[]), None);
        assert_eq!(at(&recent, 7, 12, &[]), Some(6));
        assert_eq!(at(&recent, 7, 2 * (kept + 5), &[]), Some(kept + 5));
        assert_eq!(recent.len(), KEPT + 1);
    }
}
