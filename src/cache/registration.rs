//! A cache's name in its instance, for as long as there is a handle of the cache.

use std::sync::{Arc, Weak};

use crate::coherence::member::Member;
use crate::coherence::registry::AnyCache;
use crate::metrics::CacheMetrics;

/// Held by the handles of a cache, and not by what it does: a load that runs on after the last handle
/// is gone keeps the cache's memory, and neither its name nor a place for its value.
pub(crate) struct Registration {
    pub(super) member: Arc<Member>,
    pub(super) id: u32,
    pub(super) cache: Weak<dyn AnyCache>,
    pub(super) metrics: Arc<CacheMetrics>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // With the last handle go the values of the cache: not under the lock of the registry.
        let cache = self.cache.upgrade();
        if self.member.caches.remove(self.id, &self.cache) {
            self.metrics.entries.set(0);
            self.metrics.weight.set(0);
            self.member.metrics.retire(&self.metrics);
            self.member.tell_caches();
        }
        if let Some(cache) = cache {
            cache.retire();
        }
    }
}
