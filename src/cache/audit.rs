//! The consistency audit: a share of the hits is compared with the source of truth, in the background.
//!
//! Everything else in this crate bounds how old a hit may be if writers invalidate what they change.
//! The audit measures how old hits are: it finds a writer that does not invalidate, a loader that reads
//! a replica which lags, and a bug of this crate. A served value that differs from the source is no
//! fault in itself, because the source may have changed a moment ago; it is a fault if the value is
//! still served when the bound is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};

use crate::Key;
use crate::cache::auditor::Auditor;
use crate::cache::state::CacheState;
use crate::coherence::member::Phase;
use crate::contain::guarded;
use crate::key::reference::KeyRef;
use crate::metrics::{Audited, StaleFor};

/// The times past the bound at which a difference is looked at again.
const AGES: [(Duration, StaleFor); 3] = [
    (Duration::from_secs(1), StaleFor::Second),
    (Duration::from_secs(10), StaleFor::TenSeconds),
    (Duration::from_secs(60), StaleFor::Minute),
];

/// How a served value compares with the source.
enum Compared {
    Same,
    Differs,
    /// The source could not be asked.
    Unknown,
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Audits this hit, if it is one of the share.
    #[inline]
    pub(super) fn audit<Q>(self: &Arc<Self>, hash: u64, key: &Q, served: &Option<V>)
    where
        Q: KeyRef<K> + ?Sized,
    {
        if let Some(audit) = &self.audit
            && fastrand::f64() < audit.share
        {
            self.begin_audit(audit, hash, key, served.as_ref());
        }
    }

    #[cold]
    fn begin_audit<Q>(self: &Arc<Self>, audit: &Auditor<V>, hash: u64, key: &Q, served: Option<&V>)
    where
        Q: KeyRef<K> + ?Sized,
    {
        let Ok(place) = audit.places.clone().try_acquire_owned() else {
            self.metrics.audits[Audited::Skipped].inc();
            return;
        };
        let hit = Hit {
            hash,
            key: key.to_key(),
            served: served.cloned(),
        };
        let (cache, metrics) = (Arc::downgrade(self), self.metrics.clone());
        self.member().runtime.spawn(async move {
            // The loader runs in there, and values are dropped.
            if !guarded(Box::pin(hit.watch(cache, place))).await {
                metrics.audits[Audited::Failed].inc();
            }
        });
    }
}

/// A hit that is being audited.
struct Hit<K, V> {
    hash: u64,
    key: K,
    /// `None`: that it does not exist.
    served: Option<V>,
}

impl<K, V> Hit<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps nothing alive while it waits.
    async fn watch(self, cache: Weak<CacheState<K, V>>, _place: OwnedSemaphorePermit) {
        let Some(inner) = cache.upgrade() else { return };
        let audits = &inner.metrics.audits;
        match self.compare(&inner).await {
            Compared::Same => return audits[Audited::Same].inc(),
            Compared::Unknown => return audits[Audited::Failed].inc(),
            Compared::Differs => audits[Audited::Differs].inc(),
        }
        // It differed at this moment at the latest.
        let over = Instant::now() + inner.options.max_staleness.unwrap_or_default();
        drop(inner);
        for (past, age) in AGES {
            sleep_until(over + past).await;
            let Some(inner) = cache.upgrade() else { return };
            if inner.member().phase() == Phase::Closed || !self.is_served(&inner) {
                return;
            }
            match self.compare(&inner).await {
                // Between the two looks it may have been dropped.
                Compared::Differs if self.is_served(&inner) => self.report(&inner, age),
                Compared::Same | Compared::Differs => return,
                // The source is down: look again at the next age.
                Compared::Unknown => {}
            }
        }
    }

    /// Asks the source, past the cache and past its flights.
    async fn compare(&self, inner: &CacheState<K, V>) -> Compared {
        let (Some(audit), Ok(load)) = (&inner.audit, inner.load_of_source(&self.key)) else {
            return Compared::Unknown;
        };
        match timeout(inner.options.load_timeout, load).await {
            Ok(Ok(loaded)) => match (&self.served, &loaded.value) {
                (Some(served), Some(source)) => match audit.same(served, source) {
                    Some(true) => Compared::Same,
                    Some(false) => Compared::Differs,
                    None => Compared::Unknown,
                },
                (None, None) => Compared::Same,
                _ => Compared::Differs,
            },
            Ok(Err(_)) | Err(_) => Compared::Unknown,
        }
    }

    /// Whether a reader would get the same value now.
    fn is_served(&self, inner: &CacheState<K, V>) -> bool {
        let Some(audit) = &inner.audit else {
            return false;
        };
        let found = inner.store.lookup(self.hash, &self.key);
        match (found.map(|found| found.value), &self.served) {
            (Ok(Some(value)), Some(served)) => audit.same(served, &value) == Some(true),
            (Ok(None), None) => true,
            _ => false,
        }
    }

    fn report(&self, inner: &CacheState<K, V>, age: StaleFor) {
        inner.metrics.audit_stale[age].inc();
        let Some(audit) = &inner.audit else { return };
        if let Some(suppressed) = audit.log.allow(inner.member().clock.now()) {
            tracing::warn!(
                cache = inner.name,
                key_hash = format_args!("{:016x}", self.hash),
                past_bound = age.text(),
                suppressed,
                "the audit found a value that is still served though the source has another one: \
                 does every writer of it invalidate, and does the loader read the primary?"
            );
        }
    }
}
