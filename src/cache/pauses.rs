//! Which keys are not reloaded ahead for a moment, because a reload has just failed.

use std::sync::atomic::AtomicU64;

/// Groups of keys that pause together, which bounds what is remembered: 1 KiB a cache. A failing source
/// is asked at most this often a second. If only some keys fail, other keys of their groups are
/// reloaded a second late, or by the miss after their end.
const GROUPS: usize = 128;

/// Until when each group of keys pauses.
#[derive(Debug)]
pub(crate) struct Pauses([AtomicU64; GROUPS]);

impl Default for Pauses {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Pauses {
    pub(crate) fn of(&self, hash: u64) -> &AtomicU64 {
        &self.0[(hash >> 32) as usize % GROUPS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_over_the_groups() {
        let pauses = Pauses::default();
        let groups: std::collections::BTreeSet<_> = (0..10_000_u64)
            .map(|n| std::ptr::from_ref(pauses.of(xxhash_rust::xxh3::xxh3_64(&n.to_be_bytes()))))
            .collect();
        assert_eq!(groups.len(), GROUPS);
    }
}
