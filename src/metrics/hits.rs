//! Counting hits for a few nanoseconds each.
//!
//! A hit is the one thing that happens millions of times a second, on every core at once.
//! A counter that two threads write costs each of them tens of nanoseconds a time, so a thread
//! leases a number (one pool for the process), and in every cache it alone writes the slot with
//! that number: an ordinary load and an ordinary store.
//! The age of a hit and the number of hits are one count: a hit writes only its age's bucket, and
//! the number of hits is the sum of the buckets.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::cells::Metric;
use super::fold::Fold;
use super::series::{Series, SeriesKind};

/// Threads that can have a slot of their own: the bits of one word.
/// A runtime has one worker for each core; threads beyond 64 share a slot and lose speed, no hit.
const SLOTS: usize = u64::BITS as usize;

/// Upper bounds of the age buckets: 2^2 to 2^21 milliseconds (4 ms to 35 minutes).
/// Below 4 ms the kernel's coarse clock sees no difference.
const BOUNDS: &[u64] = &{
    let mut bounds = [0; 20];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = (4 << index) * 1_000_000;
        index += 1;
    }
    bounds
};

/// The buckets of [`BOUNDS`], and one for what is older.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The second series that [`Hits`] feeds.
pub(super) const HIT_AGE: &Series = &Series {
    name: "unstale_hit_age_seconds",
    kind: SeriesKind::Histogram,
    labels: &[],
    bounds: BOUNDS,
    scope: Some("cache"),
    help: "Age of a served entry since the beginning of its load. Sampled: at most 1,000 hits a second, in proportion.",
};

/// The hits of one cache, by age.
pub(crate) struct Hits {
    slots: [OnceLock<Box<Slot>>; SLOTS],
    /// For threads without a lease.
    shared: Slot,
}

/// Two cache lines of its own each: processors fetch lines in pairs.
#[repr(align(128))]
struct Slot([AtomicU64; BUCKETS]);

impl Hits {
    /// Counts a hit on an entry of this age, in nanoseconds.
    #[inline]
    pub(crate) fn record(&self, age: u64) {
        let bucket = bucket(age);
        match leased() {
            Some(slot) => {
                let counter = &self.slots[slot].get_or_init(Box::default).0[bucket];
                // Not a lost update: until the lease is returned no other thread writes here.
                counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
            }
            None => {
                self.shared.0[bucket].fetch_add(1, Relaxed);
            }
        }
    }

    /// All hits so far.
    pub(crate) fn get(&self) -> u64 {
        self.ages().iter().sum()
    }

    fn ages(&self) -> [u64; BUCKETS] {
        let mut ages = [0; BUCKETS];
        let own = self
            .slots
            .iter()
            .filter_map(OnceLock::get)
            .map(|slot| &**slot);
        for slot in own.chain([&self.shared]) {
            for (age, counter) in ages.iter_mut().zip(&slot.0) {
                *age += counter.load(Relaxed);
            }
        }
        ages
    }
}

/// The first bucket whose bound is not below `age`.
#[inline]
fn bucket(age: u64) -> usize {
    let milliseconds = age.saturating_sub(1) / 1_000_000;
    // Up to 3 (that is, up to 4 ms inclusive): bucket 0. Each doubling: one more.
    ((milliseconds | 3).ilog2() as usize - 1).min(BUCKETS - 1)
}

impl Metric for Hits {
    const KIND: SeriesKind = SeriesKind::Counter;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        let ages = self.ages();
        fold.counter(series, Vec::new(), ages.iter().sum());
        fold.histogram(HIT_AGE, &ages);
    }
}

impl Default for Hits {
    fn default() -> Self {
        Self {
            slots: array::from_fn(|_| OnceLock::new()),
            shared: Slot::default(),
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl std::fmt::Debug for Hits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hits").field(&self.get()).finish()
    }
}

/// Leased slot numbers, one bit each.
static LEASED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LEASE: Lease = Lease::take(&LEASED);
}

/// This thread's slot number. `None`: all were leased at its first hit, or the thread is ending.
#[inline]
fn leased() -> Option<usize> {
    LEASE.try_with(|lease| lease.slot).ok().flatten()
}

/// A thread's right to be the only writer of one slot in every cache.
struct Lease {
    pool: &'static AtomicU64,
    slot: Option<usize>,
}

impl Lease {
    /// Leases the lowest free slot, so that few threads touch few slots.
    fn take(pool: &'static AtomicU64) -> Self {
        let mut taken = pool.load(Relaxed);
        loop {
            let slot = taken.trailing_ones() as usize;
            if slot == SLOTS {
                return Self { pool, slot: None };
            }
            // Acquire, and the release in `drop`: this thread's first load sees the last store of
            // the thread that had the slot before.
            match pool.compare_exchange_weak(taken, taken | 1 << slot, Acquire, Relaxed) {
                Ok(_) => {
                    return Self {
                        pool,
                        slot: Some(slot),
                    };
                }
                Err(now) => taken = now,
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.pool.fetch_and(!(1 << slot), Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn an_age_falls_into_the_first_bucket_that_holds_it() {
        for (index, bound) in BOUNDS.iter().enumerate() {
            assert_eq!(bucket(*bound), index, "{bound} is inclusive");
            assert_eq!(bucket(*bound + 1), index + 1, "just above {bound}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(BOUNDS[0], 4 * MILLISECOND);
        assert_eq!(BOUNDS[19], (1 << 21) * MILLISECOND);
    }

    #[test]
    fn more_threads_than_slots_lose_no_hit() {
        const THREADS: usize = SLOTS + 16;
        const EACH: u64 = 20_000;
        let hits = Hits::default();
        // All alive at once, so that some of them get no lease.
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    hits.record(0);
                    start.wait();
                    // All in one bucket, where those that share a slot get in each other's way.
                    (1..EACH).for_each(|_| hits.record(0));
                });
            }
        });
        assert_eq!(hits.get(), THREADS as u64 * EACH);
        let shared: u64 = hits
            .shared
            .0
            .iter()
            .map(|counter| counter.load(Relaxed))
            .sum();
        assert!(
            shared >= 16 * EACH,
            "16 threads at least had to share: {shared}"
        );
    }

    #[test]
    fn threads_that_come_and_go_hand_their_slots_on() {
        const EACH: u64 = 100;
        let hits = Hits::default();
        for _ in 0..100 {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..EACH).for_each(|_| hits.record(MILLISECOND)));
                }
            });
        }
        assert_eq!(hits.get(), 100 * 4 * EACH);
    }

    #[test]
    fn a_lease_is_unique_and_comes_back() {
        static POOL: AtomicU64 = AtomicU64::new(0);
        let mut leases: Vec<Lease> = (0..SLOTS).map(|_| Lease::take(&POOL)).collect();
        let slots: Vec<usize> = leases.iter().filter_map(|lease| lease.slot).collect();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
        assert_eq!(Lease::take(&POOL).slot, None, "the pool is empty");
        leases.remove(7);
        assert_eq!(Lease::take(&POOL).slot, Some(7));
        drop(leases);
        assert_eq!(POOL.load(Relaxed), 0);
    }

    #[test]
    fn memory_is_for_threads_that_hit() {
        let hits = Hits::default();
        hits.record(0);
        hits.record(MILLISECOND);
        assert!(
            hits.slots
                .iter()
                .filter(|slot| slot.get().is_some())
                .count()
                <= 1
        );
        assert_eq!(hits.get(), 2);
    }
}
