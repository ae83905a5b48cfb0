//! What has left the store and is dropped once no lock of it is held.
//!
//! A drop is code of the user. Under a lock of quick_cache, a drop that looks at its own cache would
//! wait forever, one that panics would leave the shard half changed, and one that takes long would
//! hold up every reader of the shard.

use std::sync::Arc;

use quick_cache::Lifecycle;

use crate::contain::Contain;
use crate::metrics::CacheMetrics;
use crate::mutants::{Mechanism, without};
use crate::store::entry::{Entry, Stored};
use crate::store::ghosts::{Ghosts, Gone};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::time::Clock;

/// How the log names the code that runs here.
const WHAT: &str = "the drop of a key or a value";

/// What eviction, which runs inside quick_cache, shares with the store.
pub(crate) struct EvictionState {
    pub(super) ghosts: Ghosts,
    pub(super) bytes: AtomicU64,
    pub(super) metrics: Arc<CacheMetrics>,
    pub(super) clock: Clock,
}

/// What one request to quick_cache has taken out. One insert puts few entries out of the store: as
/// many as make room for its weight.
pub(super) struct Leaving<K, T> {
    entries: Vec<(Stored<K>, Entry<T>)>,
    /// What the new value replaces; its key stays.
    replaced: Option<Entry<T>>,
}

impl<K, T> Default for Leaving<K, T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            replaced: None,
        }
    }
}

impl<K, T> Leaving<K, T> {
    pub(super) fn add(&mut self, stored: Stored<K>, entry: Entry<T>) {
        self.entries.push((stored, entry));
    }

    pub(super) fn replaces(&mut self, old: Entry<T>) {
        self.replaced = Some(old);
    }

    /// Call it when no lock is held.
    pub(super) fn free(self, contain: &Contain) {
        for (stored, entry) in self.entries {
            free(contain, stored, entry);
        }
        if let Some(old) = self.replaced {
            contain.drop(WHAT, old.value);
        }
    }
}

/// Drops a key and its value, each for itself: a drop that panics does not reach the other, whose own
/// panic in that moment would end the process.
pub(super) fn free<K, T>(contain: &Contain, stored: Stored<K>, entry: Entry<T>) {
    contain.drop(WHAT, stored.key);
    contain.drop(WHAT, entry.value);
}

/// Sees what the store evicts to make room.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<EvictionState>);

impl<K, T> Lifecycle<Stored<K>, Entry<T>> for Hook {
    type RequestState = Leaving<K, T>;

    fn on_evict(&self, leaving: &mut Leaving<K, T>, stored: Stored<K>, entry: Entry<T>) {
        self.0.bytes.fetch_sub(entry.meta.bytes(), Relaxed);
        self.0.metrics.evictions.inc();
        self.0
            .ghosts
            .put(stored.hash, Gone::Evicted, self.0.clock.now());
        if !without(Mechanism::DropsOutsideLocks) {
            leaving.add(stored, entry);
        }
    }
}
