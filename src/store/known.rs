//! Which keys have been seen to exist: what a limit on loads of unknown keys spares.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Places a hash may have. With twice as many places as keys hardly any is crowded out: a bucket then
/// has four on average, and one of fifty buckets more than eight.
const WAYS: usize = 8;

/// Fewest places: a small cache still remembers the keys that came and went.
const MIN_PLACES: usize = 1_024;

/// Most places: 16 MiB of memory. A larger cache remembers its four million latest keys and those
/// that are in memory.
const MAX_PLACES: usize = 1 << 22;

/// A small lossy table of fingerprints, 4 bytes a place. It outlives the entries: a key that was
/// evicted, has expired or was invalidated is known all the same.
///
/// Only a value that was found, or an invalidation, enters a key: requests for keys that do not
/// exist, however many, push nothing out. A fingerprint that is lost (crowded out, or by two
/// threads in one bucket at once) makes its key count as unknown once; an unknown key that happens
/// to have a known one's (one of 2^28) is spared the limit once.
#[derive(Debug)]
pub(crate) struct Known(Box<[AtomicU32]>);

impl Known {
    /// Twice as many places as entries.
    pub(crate) fn new(capacity: usize) -> Self {
        let places = capacity.saturating_mul(2).min(MAX_PLACES);
        let places = places.next_power_of_two().max(MIN_PLACES);
        Self((0..places).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn has(&self, hash: u64) -> bool {
        let name = name(hash);
        self.bucket(hash)
            .iter()
            .any(|place| place.load(Relaxed) == name)
    }

    pub(crate) fn put(&self, hash: u64) {
        let name = name(hash);
        let bucket = self.bucket(hash);
        let mut free = None;
        for place in bucket {
            match place.load(Relaxed) {
                held if held == name => return,
                0 => free = free.or(Some(place)),
                _ => {}
            }
        }
        let crowded_out = &bucket[name as usize >> 1 & (WAYS - 1)];
        free.unwrap_or(crowded_out).store(name, Relaxed);
    }

    /// The key no longer exists.
    pub(crate) fn forget(&self, hash: u64) {
        let name = name(hash);
        for place in self.bucket(hash) {
            // Fails where it is another's by now.
            let _ = place.compare_exchange(name, 0, Relaxed, Relaxed);
        }
    }

    fn bucket(&self, hash: u64) -> &[AtomicU32] {
        let first = hash as usize & (self.0.len() - 1) & !(WAYS - 1);
        &self.0[first..first + WAYS]
    }
}

/// The upper half of the hash; 0 is an empty place.
fn name(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As evenly spread as the hashes of keys are (splitmix64).
    fn hash(key: u64) -> u64 {
        let mut mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    #[test]
    fn remembers_as_many_keys_as_the_cache_holds_until_they_are_found_gone() {
        let known = Known::new(10_000);
        for key in 0..10_000 {
            known.put(hash(key));
        }
        let kept = (0..10_000).filter(|key| known.has(hash(*key))).count();
        assert!(kept > 9_900, "only {kept} of 10,000 are known");
        let strangers = (10_000..1_010_000).filter(|key| known.has(hash(*key)));
        assert!(strangers.count() <= 2, "of a million unknown keys");
        for key in 0..5_000 {
            known.forget(hash(key));
        }
        let kept = (0..10_000).filter(|key| known.has(hash(*key))).count();
        assert!((4_900..=5_000).contains(&kept), "{kept} of 5,000");
    }

    #[test]
    fn is_bounded_whatever_the_capacity() {
        for capacity in [1, usize::MAX] {
            let known = Known::new(capacity);
            assert!((MIN_PLACES..=MAX_PLACES).contains(&known.0.len()));
            for hash in [0, u64::MAX, 1 << 63] {
                known.put(hash);
                assert!(known.has(hash));
            }
        }
    }
}
