//! Why an entry is gone: remembered for a while, so that a miss can name its cause.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Nanos;

/// Why an entry left the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    Expired,
    Invalidated,
    Evicted,
    Fenced,
    /// A remembered absence whose negative TTL ran out.
    Negative,
}

const KINDS: [Gone; 5] = [
    Gone::Expired,
    Gone::Invalidated,
    Gone::Evicted,
    Gone::Fenced,
    Gone::Negative,
];

/// The time is kept in steps of 2^26 ns, about 67 ms: 32 bits of them last nine years.
const TICK_BITS: u32 = 26;

/// A small lossy table: one word a slot, the newer overwrites the older.
/// Only metrics depend on it.
#[derive(Debug)]
pub(crate) struct Ghosts(Box<[AtomicU64]>);

impl Ghosts {
    /// As many slots as entries, within 8 KiB to 512 KiB.
    pub(crate) fn new(capacity: usize) -> Self {
        let slots = capacity.next_power_of_two().clamp(1_024, 65_536);
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn put(&self, hash: u64, why: Gone, at: Nanos) {
        let kind = why as u64 + 1;
        self.slot(hash)
            .store(name(hash) | kind << 32 | u64::from(tick(at)), Relaxed);
    }

    /// Why and when the entry of this hash left, forgotten by asking.
    pub(crate) fn take(&self, hash: u64) -> Option<(Gone, Nanos)> {
        self.read(hash, |slot| slot.store(0, Relaxed))
    }

    /// As [`take`](Self::take), and forgets nothing.
    pub(crate) fn look(&self, hash: u64) -> Option<(Gone, Nanos)> {
        self.read(hash, |_| {})
    }

    #[inline]
    fn read(&self, hash: u64, then: impl FnOnce(&AtomicU64)) -> Option<(Gone, Nanos)> {
        let slot = self.slot(hash);
        let word = slot.load(Relaxed);
        if word == 0 || word & NAME != name(hash) {
            return None;
        }
        then(slot);
        let why = *KINDS.get((word >> 32 & 7).checked_sub(1)? as usize)?;
        Some((why, (word & u64::from(u32::MAX)) << TICK_BITS))
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.0[hash as usize & (self.0.len() - 1)]
    }
}

/// The upper 29 bits name the hash within its slot.
const NAME: u64 = !0 << 35;

fn name(hash: u64) -> u64 {
    hash & NAME
}

fn tick(at: Nanos) -> u32 {
    (at >> TICK_BITS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_asked_and_never_mixes_hashes_of_a_slot_up() {
        let ghosts = Ghosts::new(10);
        let (a, b) = (0xAAAA_0000_0000_0001, 0xBBBB_0000_0000_0001);
        for why in KINDS {
            ghosts.put(a, why, 5_000_000_000);
            assert_eq!(ghosts.take(b), None);
            assert_eq!(ghosts.look(b), None);
            let looked = ghosts.look(a);
            assert_eq!(ghosts.look(a), looked, "looking forgets nothing");
            let (was, at) = ghosts.take(a).expect("remembered");
            assert_eq!(looked, Some((was, at)));
            assert_eq!(was, why);
            assert!(5_000_000_000 - at < 1 << TICK_BITS);
            assert_eq!(ghosts.take(a), None);
        }
        ghosts.put(a, Gone::Expired, 1);
        ghosts.put(b, Gone::Evicted, 1);
        assert_eq!(ghosts.take(a), None, "the newer overwrites the older");
    }
}
