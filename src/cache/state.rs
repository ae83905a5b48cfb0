//! What one cache is made of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::Key;
use crate::cache::admission::Admission;
use crate::cache::auditor::Auditor;
use crate::cache::flight::Flights;
use crate::cache::pauses::Pauses;
use crate::cache::primary::Primary;
use crate::coherence::lifeline::Lifeline;
use crate::coherence::member::Member;
use crate::entered::{Entered, entered};
use crate::loader::{BatchLoader, Loader};
use crate::log::LogLimit;
use crate::metrics::CacheMetrics;
use crate::settings::CacheOptions;
use crate::store::Store;

pub(crate) type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;

/// Shared by a cache's handles and by its loads.
pub(crate) struct CacheState<K, V> {
    pub(crate) lifeline: Arc<Lifeline>,
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) options: CacheOptions,
    pub(crate) store: Store<K, V>,
    pub(crate) flights: Arc<Flights<K, V>>,
    pub(crate) loader: Option<Arc<Loader<K, V>>>,
    /// For some time after an invalidation.
    pub(crate) primary: Option<Primary<K, V>>,
    /// Entries past their TTL stay, for the loader.
    pub(crate) keeps_expired: bool,
    pub(crate) batch_loader: Option<Arc<BatchLoader<K, V>>>,
    /// What the shared tier would give back for a value, where that is another one.
    #[cfg(feature = "shared")]
    pub(crate) codec: Option<Arc<dyn crate::tier::value::Codec<V>>>,
    pub(crate) weigher: Option<Arc<Weigher<K, V>>>,
    /// None unless hits are to be audited.
    pub(crate) audit: Option<Auditor<V>>,
    /// Loads look into the shared tier first.
    pub(crate) has_tier: bool,
    #[cfg(feature = "shared")]
    pub(crate) tier: Option<crate::tier::client::Tier<V>>,
    pub(crate) admission: Admission,
    /// A load has taken `stale_if_slow`, and none has brought a value since.
    pub(crate) source_hangs: AtomicBool,
    /// Loads that failed, in the log.
    pub(crate) failures: LogLimit,
    pub(crate) pauses: Pauses,
    pub(crate) metrics: Arc<CacheMetrics>,
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn member(&self) -> &Arc<Member> {
        self.lifeline.member()
    }

    /// A future of the API, boxed, so that a hit does not pay for the size of a miss.
    pub(crate) fn entered<F: Future>(&self, future: F) -> Entered<F> {
        entered(&self.member().runtime, future)
    }
}
