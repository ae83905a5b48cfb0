//! How entries leave: a key, a tag, the whole cache, the store itself.

use std::mem::needs_drop;

use crate::store::Store;
use crate::store::entry::ByHash;
use crate::store::eviction::Entries;
use crate::store::ghosts::Gone;
use crate::store::leaving::free;
use crate::store::stamps::Stamp;
use crate::sync::Ordering::*;

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    /// Drops a key that was written; whether there was an entry.
    pub(crate) fn invalidate_key(&self, hash: u64) -> bool {
        if let Some(known) = &self.known {
            known.put(hash);
        }
        self.drop_key(hash)
    }

    /// Drops a key, its load in flight included; whether there was an entry.
    pub(crate) fn drop_key(&self, hash: u64) -> bool {
        let now = self.stamps.tick();
        self.stamps
            .key(self.options.cache, hash)
            .fetch_max(now, SeqCst);
        let dropped = self.drop_hash(hash);
        if dropped {
            self.evicted.ghosts.put(hash, Gone::Invalidated, 0);
        }
        dropped
    }

    /// 1: an insert of an absence sets `has_absences`, then checks the stamp; 2: an invalidation
    /// raises the stamp, then reads `has_absences`. All four are SeqCst, so one of the two sees
    /// the other.
    pub(super) fn drop_hash(&self, hash: u64) -> bool {
        let value = self.take(&self.values, hash);
        let absence = self.has_absences.load(SeqCst) && self.take(&self.absences, hash);
        value || absence
    }

    /// Takes a hash out, and drops what it held when no lock is held; whether there was an entry.
    pub(super) fn take<T: Clone>(&self, cache: &Entries<K, T>, hash: u64) -> bool {
        let contain = &self.options.contain;
        // A placeholder's key is dropped in there.
        let taken = contain.run("the drop of a key", || cache.remove(&ByHash(hash)));
        let Some((stored, entry)) = taken.flatten() else {
            return false;
        };
        self.subtract(&entry.meta);
        free(contain, stored, entry);
        true
    }

    /// Hands out entry by entry, so that a drop that panics keeps no other one from its own.
    pub(super) fn empty(&self) {
        if needs_drop::<K>() || needs_drop::<V>() {
            for (stored, entry) in self.values.drain() {
                free(&self.options.contain, stored, entry);
            }
            for (stored, entry) in self.absences.drain() {
                free(&self.options.contain, stored, entry);
            }
        }
    }

    /// Drops every entry with this tag, in O(1); they leave memory when met or reaped.
    pub(crate) fn invalidate_tag(&self, tag: u64) {
        let now = self.stamps.tick();
        self.stamps
            .tag(self.options.cache, tag)
            .fetch_max(now, SeqCst);
        self.newest_tag.fetch_max(now, SeqCst);
    }

    /// Drops every entry, in O(1); they leave memory when met or reaped.
    pub(crate) fn invalidate_all(&self) {
        let now = self.stamps.tick();
        self.stamp.fetch_max(now, SeqCst);
    }

    /// Nothing is stored from now on.
    pub(crate) fn retire(&self) {
        self.stamp.fetch_max(Stamp::MAX, SeqCst);
    }
}
