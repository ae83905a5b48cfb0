//! What an event or a write drops: a cache as invalidations see it, whether this instance's or a peer's.

use crate::Key;
use crate::cache::state::CacheState;
use crate::coherence::outbox::Invalidation;
use crate::coherence::registry::AnyCache;
use crate::event::What;
use crate::metrics::{Scope as Invalidated, Side as Source};
use crate::settings::HiddenSetting;

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Drops one item here; the caller has it published.
    fn drop_item(&self, item: Invalidation, source: Source) {
        let kind = match item {
            // Of another cache that had the name: see `apply`.
            Invalidation::Key { format, .. } | Invalidation::Tag { format, .. }
                if format != K::FORMAT =>
            {
                self.store.invalidate_all();
                Invalidated::Cache
            }
            Invalidation::Key { hash, .. } => {
                self.store.invalidate_key(hash);
                Invalidated::Key
            }
            Invalidation::Tag { tag, .. } => {
                self.store.invalidate_tag(tag);
                Invalidated::Tag
            }
            Invalidation::Cache { .. } => {
                self.store.invalidate_all();
                Invalidated::Cache
            }
        };
        self.metrics.invalidations[(kind, source)].inc();
    }
}

impl<K, V> AnyCache for CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn format(&self) -> u32 {
        K::FORMAT
    }

    fn hidden_settings(&self) -> &[HiddenSetting] {
        &self.options.hidden
    }

    fn apply(&self, format: u32, what: &What) {
        if format != K::FORMAT {
            // Hashes of another format name other bytes: only everything is sure to include them.
            self.store.invalidate_all();
            self.metrics.invalidations[(Invalidated::Cache, Source::Remote)].inc();
            return;
        }
        match what {
            What::Keys(hashes) => {
                for hash in hashes {
                    self.store.invalidate_key(*hash);
                }
                let count = hashes.len() as u64;
                self.metrics.invalidations[(Invalidated::Key, Source::Remote)].add(count);
            }
            What::Tags(tags) => {
                for tag in tags {
                    self.store.invalidate_tag(*tag);
                }
                let count = tags.len() as u64;
                self.metrics.invalidations[(Invalidated::Tag, Source::Remote)].add(count);
            }
            What::Cache | What::Lane => {
                self.store.invalidate_all();
                self.metrics.invalidations[(Invalidated::Cache, Source::Remote)].inc();
            }
        }
    }

    fn drop_local(&self, item: Invalidation) {
        self.drop_item(item, Source::Local);
    }

    fn retire(&self) {
        self.store.retire();
    }

    fn measure(&self) -> u64 {
        self.metrics.entries.set(self.store.len() as u64);
        self.metrics.weight.set(self.store.bytes());
        let metrics = &self.metrics;
        metrics.hits()
            + metrics.negative_hits.get()
            + metrics.misses.total()
            + metrics.coalesced.get()
    }
}
