//! The invalidation clock: when was a key, a tag, a cache or a lane last invalidated?

use tokio::sync::Notify;

use crate::sync::{AtomicBool, AtomicU64, Ordering::*};
use crate::time::Nanos;

/// A moment of the invalidation clock: how many invalidations had been applied.
pub(crate) type Stamp = u64;

/// The stamps of one instance, shared by its caches.
///
/// Fixed memory, no index from tags to keys. Every invalidation takes the next number and raises
/// the stamps of what it names; a load takes the number it began at, its *token*; a value may be
/// stored, and served, only if no stamp that concerns it is above its token.
#[derive(Debug)]
pub(crate) struct Stamps {
    clock: Aligned<AtomicU64>,
    keys: Box<[AtomicU64]>,
    tags: Box<[AtomicU64]>,
    lanes: Box<[Aligned<Freshness>]>,
}

/// Keeps what is written often off the lines of what is read on every hit.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Aligned<T>(pub(super) T);

/// What reads know of a lane; both numbers are on one cache line that only verifications write.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// All events of the lane published before this local time have been applied; 0: never yet.
    verified_at: AtomicU64,
    /// The stamp of the lane's last fence.
    fenced: AtomicU64,
    /// False after a read waited for a verification that did not come, until one succeeds.
    up: AtomicBool,
    /// Woken by every verification.
    pub(crate) verified: Notify,
}

impl Freshness {
    /// When the lane was last verified. Acquire: a thread that sees a verification sees the
    /// invalidations that it proves applied.
    #[inline]
    pub(crate) fn verified_at(&self) -> Nanos {
        self.verified_at.load(Acquire)
    }

    /// Call only when everything published before `at` has been applied.
    pub(crate) fn verify(&self, at: Nanos) {
        self.verified_at.fetch_max(at, Release);
        self.up.store(true, Relaxed);
        self.verified.notify_waiters();
    }

    pub(crate) fn up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(crate) fn set_down(&self) {
        self.up.store(false, Relaxed);
    }
}

impl Stamps {
    /// `stripes` is a power of two: `STRIPES`, except where a test runs thousands of instances.
    pub(crate) fn new(lanes: u32, stripes: usize) -> Self {
        let stripes = || (0..stripes).map(|_| AtomicU64::new(0)).collect();
        let lane = || {
            Aligned(Freshness {
                verified_at: AtomicU64::new(0),
                fenced: AtomicU64::new(0),
                up: AtomicBool::new(true),
                verified: Notify::new(),
            })
        };
        Self {
            clock: Aligned(AtomicU64::new(0)),
            keys: stripes(),
            tags: stripes(),
            lanes: (0..lanes).map(|_| lane()).collect(),
        }
    }

    /// A load's token: take it before the load begins.
    pub(crate) fn token(&self) -> Stamp {
        self.clock.0.load(SeqCst)
    }

    /// The next moment of the clock, for one invalidation.
    pub(crate) fn tick(&self) -> Stamp {
        self.clock.0.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn lanes(&self) -> impl ExactSizeIterator<Item = &Freshness> {
        self.lanes.iter().map(|lane| &lane.0)
    }

    pub(crate) fn lane_count(&self) -> u32 {
        self.lanes.len() as u32
    }

    #[inline]
    pub(crate) fn lane(&self, hash: u64) -> &Freshness {
        match &*self.lanes {
            [only] => &only.0,
            lanes => &lanes[lane_of(hash, self.lane_count()) as usize].0,
        }
    }

    pub(crate) fn lane_at(&self, lane: u32) -> &Freshness {
        &self.lanes[lane as usize].0
    }

    /// Drops everything of a lane at once, loads in flight included.
    pub(crate) fn fence(&self, lane: u32) {
        let now = self.tick();
        self.lane_at(lane).fenced.fetch_max(now, SeqCst);
    }

    #[inline]
    pub(crate) fn fenced(&self, lane: &Freshness) -> Stamp {
        lane.fenced.load(Acquire)
    }

    pub(crate) fn key(&self, cache: u32, hash: u64) -> &AtomicU64 {
        &self.keys[stripe(cache, hash) & (self.keys.len() - 1)]
    }

    pub(crate) fn tag(&self, cache: u32, tag: u64) -> &AtomicU64 {
        &self.tags[stripe(cache, tag) & (self.tags.len() - 1)]
    }

    /// The newest stamp of these tags.
    #[inline]
    pub(crate) fn newest_tag(&self, cache: u32, tags: &[u64]) -> Stamp {
        tags.iter()
            .map(|tag| self.tag(cache, *tag).load(Acquire))
            .max()
            .unwrap_or(0)
    }
}

/// The lane a key belongs to.
#[inline]
pub(crate) fn lane_of(hash: u64, lanes: u32) -> u32 {
    if lanes == 1 {
        0
    } else {
        (hash % u64::from(lanes)) as u32
    }
}

/// Mixes the cache's id in, so that equal keys of two caches do not share a stripe.
#[inline]
fn stripe(cache: u32, hash: u64) -> usize {
    let mixed = hash ^ u64::from(cache).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 20) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::vectors;
    use crate::sync::STRIPES;

    #[test]
    fn keys_belong_to_the_lanes_of_the_protocol() {
        for vector in vectors("lanes") {
            let lane = lane_of(vector.hex("hash"), vector.number("lanes"));
            assert_eq!(lane, vector.number::<u32>("lane"), "{vector:?}");
        }
    }

    #[test]
    fn a_fence_stamps_only_its_lane_and_later_tokens_pass() {
        let stamps = Stamps::new(2, STRIPES);
        let before = stamps.token();
        stamps.fence(1);
        assert_eq!(stamps.fenced(stamps.lane_at(0)), 0);
        assert!(stamps.fenced(stamps.lane_at(1)) > before);
        assert!(stamps.fenced(stamps.lane_at(1)) <= stamps.token());
    }

    #[test]
    fn a_verification_never_moves_back() {
        let stamps = Stamps::new(1, STRIPES);
        stamps.lane_at(0).set_down();
        stamps.lane_at(0).verify(10);
        stamps.lane_at(0).verify(5);
        assert_eq!(stamps.lane_at(0).verified_at(), 10);
        assert!(stamps.lane_at(0).up());
    }

    #[test]
    fn caches_do_not_share_the_stripe_of_an_equal_key() {
        let same = (0..1_000_u64).filter(|hash| {
            (stripe(1, *hash << 20) ^ stripe(2, *hash << 20)).is_multiple_of(STRIPES)
        });
        assert!(same.count() < 10);
    }
}
