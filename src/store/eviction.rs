//! Room in memory: what an entry weighs, what eviction counts, and the caches of quick_cache made for it.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use crate::store::entry::{Entry, Identity, Meta, Stored};
use crate::store::leaving::{EvictionState, Hook};

/// Entries a shard holds at most, so that a sweep never blocks a shard's readers for longer than
/// about 0.2 ms (50 ns an entry).
const SHARD_ENTRIES: usize = 4_096;

/// Fewest entries a shard is made for: quick_cache bounds weight by shard, and small shards evict
/// long before the cache is full.
const MIN_SHARD_ENTRIES: usize = 256;

/// Weight of a full store when bytes are bounded as well as entries.
const FULL: u64 = 1 << 40;

/// Entries by the hashes of their keys.
pub(super) type Entries<K, T> = Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook>;

/// Bytes a shard is made for, where they are bounded, and the fewest and most such shards. They do not follow
/// the machine: what fits into a shard fits everywhere.
const SHARD_BYTES: u64 = 16 << 20;
const BYTE_SHARDS: std::ops::RangeInclusive<u64> = 4..=128;

/// Shards of a store: as many as its threads want, where entries are bounded alone.
fn shards(weigh: &Weigh) -> usize {
    let most = (weigh.capacity / MIN_SHARD_ENTRIES).max(1);
    if let Some(bytes) = weigh.max_bytes {
        let wanted = (bytes / SHARD_BYTES).clamp(*BYTE_SHARDS.start(), *BYTE_SHARDS.end());
        return (wanted as usize).min(most).next_power_of_two();
    }
    let cores = std::thread::available_parallelism().map_or(4, usize::from);
    let wanted = (cores * 4)
        .next_power_of_two()
        .max(weigh.capacity / SHARD_ENTRIES);
    wanted.min(most).next_power_of_two().min(1_024)
}

pub(super) fn build<K: Eq, T: Clone>(weigh: Weigh, shared: &Arc<EvictionState>) -> Entries<K, T> {
    let mut options = OptionsBuilder::new();
    options
        .shards(shards(&weigh))
        .estimated_items_capacity(weigh.capacity)
        .weight_capacity(weigh.full());
    let options = options
        .build()
        .expect("every option that has no default is set");
    Cache::with_options(options, weigh, Identity, Hook(shared.clone()))
}

/// Bounds entries and bytes by one weight: whichever of the two takes more of its bound.
#[derive(Clone, Debug)]
pub(crate) struct Weigh {
    pub(super) capacity: usize,
    pub(super) max_bytes: Option<u64>,
}

impl Weigh {
    fn full(&self) -> u64 {
        if self.max_bytes.is_some() {
            FULL
        } else {
            self.capacity as u64
        }
    }

    pub(super) fn of(&self, meta: &Meta) -> u64 {
        let Some(max_bytes) = self.max_bytes else {
            return 1;
        };
        let by_count = FULL / self.capacity as u64;
        let by_bytes = u128::from(meta.bytes()) * u128::from(FULL) / u128::from(max_bytes.max(1));
        by_count
            .max(u64::try_from(by_bytes).unwrap_or(FULL))
            .clamp(1, FULL)
    }
}

impl<K, T> Weighter<Stored<K>, Entry<T>> for Weigh {
    fn weight(&self, _: &Stored<K>, entry: &Entry<T>) -> u64 {
        self.of(&entry.meta)
    }
}
