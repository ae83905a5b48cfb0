//! The caches of one instance, as events see them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::bus::CacheFormat;
use crate::coherence::outbox::Invalidation;
use crate::contain::contained;
use crate::event::What;
use crate::lock::Lock;
use crate::settings::HiddenSetting;

/// A cache of any keys and values.
pub(crate) trait AnyCache: Send + Sync {
    fn name(&self) -> &str;
    /// Drops what an op names, unless it was written with another format of keys: then everything.
    fn apply(&self, format: u32, what: &What);
    /// Drops one item that this instance invalidates.
    fn drop_local(&self, item: Invalidation);
    /// Returns the defaults for all caches that are set and have no effect in it.
    fn hidden_settings(&self) -> &[HiddenSetting];
    /// Returns the format of its keys.
    fn format(&self) -> u32;
    /// Its last handle is gone: what is still loaded for it is not stored.
    fn retire(&self);
    /// Brings its gauges up to date and returns how many reads it has served so far.
    fn measure(&self) -> u64;
}

/// The caches by their ids. Nothing here keeps one alive.
#[derive(Default)]
pub(crate) struct Registry(Lock<BTreeMap<u32, Weak<dyn AnyCache>>>);

impl Registry {
    pub(crate) fn get(&self, id: u32) -> Option<Arc<dyn AnyCache>> {
        let cache = self.0.lock().get(&id).cloned();
        cache.and_then(|cache| cache.upgrade())
    }

    /// Enters a cache by its id, unless another that is in use has it: that one is returned.
    pub(crate) fn enter(&self, id: u32, cache: &Weak<dyn AnyCache>) -> Option<Arc<dyn AnyCache>> {
        let mut caches = self.0.lock();
        // Given back, not dropped here: with its last handle go its values.
        let other = caches.get(&id).and_then(Weak::upgrade);
        if other.is_none() {
            caches.insert(id, cache.clone());
        }
        other
    }

    /// Removes a cache, unless another one has its id by now. Returns whether it was there.
    /// 1: the last handle is dropped; 2: another cache takes the name; 3: this comes too late.
    pub(crate) fn remove(&self, id: u32, cache: &Weak<dyn AnyCache>) -> bool {
        let mut caches = self.0.lock();
        let own = caches.get(&id).is_some_and(|held| held.ptr_eq(cache));
        if own {
            caches.remove(&id);
        }
        own
    }

    /// Returns the caches with the formats of their keys.
    pub(crate) fn formats(&self) -> Vec<CacheFormat> {
        let caches: Vec<_> = {
            let caches = self.0.lock();
            caches
                .iter()
                .map(|(id, cache)| (*id, cache.clone()))
                .collect()
        };
        let format = |(id, cache): &(u32, Weak<dyn AnyCache>)| {
            let cache = cache.upgrade()?;
            let format = cache.format();
            // It may be the last handle.
            contained(|| drop(cache));
            Some(CacheFormat { id: *id, format })
        };
        caches.iter().filter_map(format).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn AnyCache>> {
        let caches: Vec<_> = self.0.lock().values().cloned().collect();
        caches.iter().filter_map(Weak::upgrade).collect()
    }
}
