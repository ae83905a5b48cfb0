//! What a cache needs to compare a share of its hits with the source; see `audit`.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::contain::Contain;
use crate::log::LogLimit;

/// Audits of one cache under way at once: each loads, and one that found a difference watches it for
/// a minute. More are skipped, and counted.
const AUDITS: usize = 16;

/// Whether a served value is what the source has.
pub(crate) type Same<V> = dyn Fn(&V, &V) -> bool + Send + Sync;

/// What a cache needs for its audit.
pub(crate) struct Auditor<V> {
    pub(crate) share: f64,
    same: Box<Same<V>>,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) log: LogLimit,
    contain: Arc<Contain>,
}

impl<V> fmt::Debug for Auditor<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor")
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

impl<V> Auditor<V> {
    pub(crate) fn new(share: f64, same: Box<Same<V>>, contain: Arc<Contain>) -> Self {
        Self {
            share,
            same,
            places: Arc::new(Semaphore::new(AUDITS)),
            log: LogLimit::default(),
            contain,
        }
    }

    /// Whether two values are the same; `None` if the comparison panics.
    pub(crate) fn same(&self, served: &V, source: &V) -> Option<bool> {
        let same = || (self.same)(served, source);
        self.contain.run("the comparison of the audit", same)
    }
}
