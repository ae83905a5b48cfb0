//! Values that a loader has read from a replica: as of when they count, whether they can be kept, and when the primary
//! is to be read in place of it.

use std::sync::Arc;

use crate::cache::primary::Primary;
use crate::cache::state::CacheState;
use crate::loader::{Load, Loaded, Loader, LookAtHeld};
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;

impl<K, V> CacheState<K, V>
where
    K: crate::Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What is wrong with what a loader has returned, if anything.
    pub(super) fn wrong(&self, loaded: &Loaded<V>) -> Option<String> {
        if loaded.as_of.is_some() && !self.store.has_source() {
            let wrong = "a value with `as_of`, but the cache names no source; name it with `.source(...)`, or \
                         leave `as_of` out";
            return Some(wrong.to_owned());
        }
        loaded.wrong_tags()
    }

    /// The token and the time that a value counts with: those of its load, or of an earlier moment where it comes from a
    /// replica. None where that moment is not known, and the value cannot be kept.
    pub(super) fn moment(
        &self,
        hash: u64,
        as_of: Option<u64>,
        (token, loaded_at): (u64, Nanos),
    ) -> Option<(u64, Nanos)> {
        let Some(place) = as_of else {
            return Some((token, loaded_at));
        };
        let proof = self.store.as_of(hash, place)?;
        if without(Mechanism::MomentOfReplicas) {
            return Some((token, loaded_at));
        }
        // A hit reads a clock that lags.
        let at = proof.at.saturating_sub(self.member().clock.lag());
        Some((token.min(proof.token), loaded_at.min(at)))
    }

    /// A load that reads from the primary where the key may have been invalidated lately. It is decided when the load
    /// begins, after its token was taken: an invalidation that comes later keeps the value from being stored.
    pub(super) fn load_of_primary_or(
        self: &Arc<Self>,
        usual: Arc<Loader<K, V>>,
        key: K,
        look: LookAtHeld<V>,
    ) -> Load<V> {
        let cache = self.clone();
        Box::pin(async move {
            let load = match &cache.primary {
                Some(primary) if cache.changed_lately(primary, &key) => primary.load.clone(),
                _ => usual,
            };
            load(key, look).await
        })
    }

    fn changed_lately(&self, primary: &Primary<K, V>, key: &K) -> bool {
        let member = self.member();
        let before = primary.before(member.clock.now(), member.stamps.token());
        let newest = key.digest().map(|hash| self.store.newest_of_any(hash));
        before
            .zip(newest)
            .is_none_or(|(before, newest)| newest > before)
    }
}
