//! Reloads ahead of an entry's end, and the pauses after those that fail.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Key;
use crate::cache::inner::Inner;
use crate::cache::tier::Wanted;
use crate::flight::Boarding;
use crate::key::KeyRef;
use crate::time::nanos;

/// After a reload ahead that failed, hits start no other for so long: the entry is still served, so
/// there is no hurry, and a source that is in trouble is not asked again by every hit.
const PAUSE: Duration = Duration::from_secs(1);

/// Groups of keys that pause together, which bounds what is remembered: 1 KiB a cache. A failing source
/// is asked at most so often a second; where only some keys fail, others of their groups are
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
    fn of(&self, hash: u64) -> &AtomicU64 {
        &self.0[(hash >> 32) as usize % GROUPS]
    }
}

/// One reload ahead. If it is dropped before it has succeeded, be it by a loader's panic, its group
/// pauses.
struct Attempt<'a, K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache: &'a Inner<K, V>,
    hash: u64,
    succeeded: bool,
}

impl<K, V> Drop for Attempt<'_, K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.succeeded {
            let until = self.cache.core().clock.now().saturating_add(nanos(PAUSE));
            self.cache.pauses.of(self.hash).fetch_max(until, Relaxed);
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts a reload in the background, unless one is under way or has just failed.
    #[cold]
    pub(super) fn refresh<Q>(self: &Arc<Self>, hash: u64, key: &Q)
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let pauses = self.pauses.of(hash).load(Relaxed) > self.core().clock.now();
        if pauses || self.flights.has(hash) {
            return;
        }
        let owned = key.to_owned();
        // Without a loader nothing may be led: who joined would wait for a load that never begins.
        let Ok(load) = self.load_of(&owned) else {
            return;
        };
        let newest = || self.store.newest(hash, &[]);
        let boarding = self.flights.board(hash, &owned, newest);
        if let Boarding::Lead(leader, passenger) = boarding {
            self.metrics.refreshes.inc();
            self.depart(leader, load, Wanted::Newer);
            let cache = self.clone();
            self.core().runtime.spawn(async move {
                let mut attempt = Attempt {
                    cache: &cache,
                    hash,
                    succeeded: false,
                };
                let landing = passenger.landing().await;
                attempt.succeeded = landing.is_some_and(|landing| landing.result.is_ok());
            });
        }
    }

    /// Which values of the shared tier are no newer than one that is due here: those past so many
    /// thousandths of their life, or so many milliseconds before its end.
    #[cfg(feature = "shared")]
    pub(crate) fn due(&self) -> (u32, u64) {
        let millis = |margin: Duration| u64::try_from(margin.as_millis()).unwrap_or(u64::MAX);
        let part = self.options.refresh_ahead;
        (
            part.map_or(1_000, |part| (part * 1_000.0) as u32),
            self.options.refresh_before.map_or(0, millis),
        )
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
