//! Reloads ahead of an entry's end, and the pauses after those that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::Key;
use crate::cache::flight::{Joined, Wanted};
use crate::cache::state::CacheState;
use crate::key::reference::KeyRef;
#[cfg(feature = "shared")]
use crate::settings::RefreshAhead;
use crate::time::nanos;

/// The time after a failed reload ahead in which hits start no other one: the entry is still served, so
/// there is no hurry, and not every hit asks a failing source again.
const PAUSE: Duration = Duration::from_secs(1);

/// One reload ahead. If it is dropped before it has succeeded, by a loader's panic for example, its
/// group pauses.
struct Attempt<'a, K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache: &'a CacheState<K, V>,
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
            let until = self.cache.member().clock.now().saturating_add(nanos(PAUSE));
            self.cache.pauses.of(self.hash).fetch_max(until, Relaxed);
        }
    }
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts a reload in the background, unless one is under way or has just failed.
    #[cold]
    pub(super) fn refresh<Q>(self: &Arc<Self>, hash: u64, key: &Q)
    where
        Q: KeyRef<K> + ?Sized,
    {
        let pauses = self.pauses.of(hash).load(Relaxed) > self.member().clock.now();
        if pauses || self.flights.has(hash) {
            return;
        }
        let owned = key.to_key();
        // Without a loader no flight may begin: a read that joined it would wait for a load that never
        // begins.
        let Ok(load) = self.load_of(&owned) else {
            return;
        };
        let newest = || self.store.newest(hash, &[]);
        let now = Some(self.member().clock.now());
        let joined = self.flights.join(hash, &owned, now, newest);
        if let Joined::Lead(mut leader, mut waiter) = joined {
            self.metrics.refreshes.inc();
            leader.span = self.span_of_load(hash, "refresh");
            self.spawn_load(leader, load, Wanted::Newer);
            let cache = self.clone();
            self.member().runtime.spawn(async move {
                let mut attempt = Attempt {
                    cache: &cache,
                    hash,
                    succeeded: false,
                };
                let landing = waiter.landing().await;
                attempt.succeeded = landing.is_some_and(|landing| landing.result.is_ok());
            });
        }
    }

    /// Returns from when on a value of the shared tier is as due for a reload as the one here: after so
    /// many thousandths of its life, or so many milliseconds before its end.
    #[cfg(feature = "shared")]
    pub(crate) fn due(&self) -> (u32, u64) {
        match self.options.refresh_ahead {
            None => (1_000, 0),
            Some(RefreshAhead::Share(share)) => ((share * 1_000.0) as u32, 0),
            Some(RefreshAhead::Before(margin)) => {
                let millis = u64::try_from(margin.as_millis()).unwrap_or(u64::MAX);
                (1_000, millis)
            }
        }
    }
}
