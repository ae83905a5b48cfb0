//! What is proven of a source that a relay watches: by lane, up to when everything that was committed there is applied,
//! and where its log was then.

use std::collections::VecDeque;

use crate::lock::Lock;
use crate::store::stamps::{Aligned, Stamp, lane_of};
use crate::sync::{AtomicU64, Ordering::*};
use crate::time::Nanos;

/// Proofs of one lane that are remembered: half a minute at the default interval. A replica that lags further has no
/// value that is kept.
const REMEMBERED: usize = 64;

/// A moment of this instance, and a place in the source's log. Everything that was committed before the moment lies
/// before the place, and so does every change whose event had been applied here by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proof {
    pub(crate) at: Nanos,
    /// The invalidation clock at that moment.
    pub(crate) token: Stamp,
    pub(crate) place: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SourceFreshness(Box<[Aligned<OfLane>]>);

#[derive(Debug, Default)]
struct OfLane {
    /// 0: never yet.
    verified_at: AtomicU64,
    /// Oldest first; their places grow, and so do their moments.
    proofs: Lock<VecDeque<Proof>>,
}

impl SourceFreshness {
    pub(crate) fn new(lanes: u32) -> Self {
        Self((0..lanes).map(|_| Aligned::default()).collect())
    }

    fn lane(&self, hash: u64) -> &OfLane {
        &self.0[lane_of(hash, self.0.len() as u32) as usize].0
    }

    /// Acquire, as [`Freshness::verified_at`](super::stamps::Freshness::verified_at).
    #[inline]
    pub(crate) fn verified_at(&self, hash: u64) -> Nanos {
        self.lane(hash).verified_at.load(Acquire)
    }

    /// Returns the oldest of the last verifications of all lanes; 0 while a lane was never verified.
    pub(crate) fn oldest(&self) -> Nanos {
        let lanes = self.0.iter().map(|lane| lane.0.verified_at.load(Relaxed));
        lanes.min().unwrap_or(0)
    }

    /// Call only when everything that was committed before the proof's moment has been applied.
    pub(crate) fn verify(&self, lane: u32, proof: Proof) {
        let lane = &self.0[lane as usize].0;
        lane.verified_at.fetch_max(proof.at, Release);
        let mut proofs = lane.proofs.lock();
        if proofs.back().is_some_and(|last| last.at > proof.at) {
            return;
        }
        match proofs.back_mut() {
            // A source that was put back to an earlier state has another log.
            Some(last) if last.place > proof.place => proofs.clear(),
            // Nothing was written meanwhile: the later moment says more.
            Some(last) if last.place == proof.place => {
                *last = proof;
                return;
            }
            _ => {}
        }
        if proofs.len() >= REMEMBERED {
            proofs.pop_front();
        }
        proofs.push_back(proof);
    }

    /// Returns the latest moment whose place a server at `place` has replayed: what is read there counts as
    /// read at that moment. `None` if that moment is not known.
    pub(crate) fn as_of(&self, hash: u64, place: u64) -> Option<Proof> {
        let proofs = self.lane(hash).proofs.lock();
        let reached = proofs.partition_point(|proof| proof.place <= place);
        proofs.get(reached.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(at: Nanos, token: Stamp, place: u64) -> Proof {
        Proof { at, token, place }
    }

    #[test]
    fn a_place_stands_for_the_latest_moment_that_it_has_reached() {
        let source = SourceFreshness::new(2);
        assert_eq!(source.as_of(0, u64::MAX), None);
        let (first, second) = (proof(10, 1, 100), proof(20, 5, 200));
        source.verify(0, first);
        source.verify(0, second);
        assert_eq!(source.as_of(0, 99), None);
        assert_eq!(source.as_of(0, 199), Some(first));
        assert_eq!(source.as_of(0, 200), Some(second));
        assert_eq!(source.as_of(1, 200), None, "another lane");
        assert_eq!((source.verified_at(0), source.verified_at(1)), (20, 0));
    }

    #[test]
    fn a_source_is_as_old_as_its_oldest_lane() {
        let source = SourceFreshness::new(2);
        source.verify(0, proof(30, 1, 1));
        assert_eq!(source.oldest(), 0);
        source.verify(1, proof(20, 1, 1));
        source.verify(0, proof(40, 1, 1));
        assert_eq!(source.oldest(), 20);
    }

    #[test]
    fn an_idle_source_takes_no_room_and_has_the_latest_moment() {
        let source = SourceFreshness::new(1);
        source.verify(0, proof(10, 1, 100));
        for at in 20..1_000 {
            source.verify(0, proof(at, at, 200));
        }
        assert_eq!(source.as_of(0, 150), Some(proof(10, 1, 100)));
        assert_eq!(source.as_of(0, 200), Some(proof(999, 999, 200)));
    }

    #[test]
    fn places_of_a_log_that_was_put_back_count_for_nothing() {
        let source = SourceFreshness::new(1);
        source.verify(0, proof(10, 1, 100));
        source.verify(0, proof(20, 2, 50));
        assert_eq!(source.as_of(0, 100), Some(proof(20, 2, 50)));
        assert_eq!(source.as_of(0, 49), None);
    }

    #[test]
    fn a_proof_that_comes_late_changes_nothing_and_the_oldest_is_forgotten() {
        let source = SourceFreshness::new(1);
        for at in 1..=100 {
            source.verify(0, proof(at, at, at));
        }
        source.verify(0, proof(5, 5, 500));
        assert_eq!(source.as_of(0, 500), Some(proof(100, 100, 100)));
        assert_eq!(source.as_of(0, 36), None);
        assert_eq!(source.as_of(0, 37), Some(proof(37, 37, 37)));
    }
}
