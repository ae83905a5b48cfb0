//! A cache's name in its instance, for as long as there is a handle of the cache.

use std::sync::{Arc, Weak};

use crate::core::{Core, Target};
use crate::metrics::CacheMetrics;

/// Held by the handles of a cache, and not by what it does: a load that runs on after the last handle
/// is gone keeps the cache's memory, and neither its name nor a place for its value.
pub(crate) struct Registration {
    pub(super) core: Arc<Core>,
    pub(super) id: u32,
    pub(super) cache: Weak<dyn Target>,
    pub(super) metrics: Arc<CacheMetrics>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Not dropped under the lock below: with it go the values of the cache.
        let cache = self.cache.upgrade();
        let mut caches = self.core.caches.lock();
        // 1: the last handle is dropped; 2: another cache takes the name; 3: this comes too late.
        let own = |held: &Weak<dyn Target>| held.ptr_eq(&self.cache);
        if caches.get(&self.id).is_some_and(own) {
            caches.remove(&self.id);
            self.metrics.entries.set(0);
            self.metrics.weight.set(0);
        }
        drop(caches);
        if let Some(cache) = cache {
            cache.retire();
        }
    }
}
