//! What memory knows beyond what it may serve, and how much it holds.

use crate::key::reference::KeyRef;
use crate::mutants::{Mechanism, without};
use crate::store::Store;
use crate::store::entry::{ByKey, Entry, Verdict, judge};
use crate::store::outcome::{Held, PastTtl};
use crate::sync::Ordering::Relaxed;
use crate::time::Nanos;

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    /// An entry that is past its TTL but nothing else: what may be served when its loader fails.
    pub(crate) fn past_ttl<Q>(&self, hash: u64, key: &Q, window: Nanos) -> PastTtl<V>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let lane = self.stamps.lane(hash);
        let verified_at = self.verified_at(hash);
        let Some(Entry { value, meta }) = self.values.peek(&ByKey { hash, key }) else {
            return PastTtl::Nothing;
        };
        let looks = !without(Mechanism::StandInStamps);
        if meta.hard_ttl() || looks && self.stamped(lane, meta.token(), &meta.tags) {
            return PastTtl::Nothing;
        }
        let now = self.options.clock.now();
        let expired = now >= meta.expires_at().saturating_add(window);
        let fresh_as_of = meta.loaded_at().max(verified_at);
        match judge(expired, fresh_as_of, self.options.max_staleness, now) {
            Verdict::Fresh => PastTtl::Value {
                value,
                age: now.saturating_sub(meta.loaded_at()),
                fresh_as_of,
                tags: meta.tags,
            },
            Verdict::Unverified => PastTtl::Unverified,
            Verdict::Expired => PastTtl::Nothing,
        }
    }

    /// What memory has of a key, served or not.
    pub(crate) fn held<Q>(&self, hash: u64, key: &Q) -> Option<Held<V>>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let Entry { value, meta } = self.values.peek(&ByKey { hash, key })?;
        let tags = meta.tags;
        Some(Held { value, tags })
    }

    /// Whether anything in memory says that the key exists, or did: an entry, though it may not be
    /// served; a value that was loaded once; or an invalidation, which the writer that creates it sends.
    pub(crate) fn is_known<Q>(&self, hash: u64, key: &Q) -> bool
    where
        Q: KeyRef<K> + ?Sized,
    {
        let remembered = self.known.as_ref().is_none_or(|known| known.has(hash));
        remembered || self.values.peek(&ByKey { hash, key }).is_some()
    }

    /// Entries held, those no longer served included.
    pub(crate) fn len(&self) -> usize {
        self.values.len() + self.absences.len()
    }

    /// Bytes held, as the weigher says. After a panic of the user's code an entry may have been taken
    /// off twice.
    pub(crate) fn bytes(&self) -> u64 {
        self.evicted.bytes.load(Relaxed).cast_signed().max(0) as u64
    }
}
