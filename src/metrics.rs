//! Every metric: names, labels, help, and how they reach Prometheus.
//!
//! The crate counts into plain atomics; nothing is looked up by name while it works.
//! Once a second an instance *folds*: it adds what was counted since the last fold
//! to two recorders of the [`metrics`](https://docs.rs/metrics) crate:
//!
//! - its own Prometheus recorder, which it never installs globally, for `metrics_text` and for the
//!   listener at `UNSTALE_METRICS_ADDR` (feature `prometheus`);
//! - whatever recorder the program has installed, even if it did so after the instance started.
//!
//! A program with a Prometheus recorder of its own should pass its builder through
//! `set_buckets`; without buckets the exporter renders histograms as summaries.
//!
//! Several instances in a process share the program's series: counters add up, and so do amounts
//! such as `unstale_entries`; an instance that closes takes its share back.
//! Histograms hand over at most 1,000 samples a fold each, thinned out in proportion, so their
//! quantiles are right and their `_count` is no count of events: use the `_total` counters for that.

mod cells;
#[cfg(feature = "prometheus")]
mod exporter;
mod fold;
mod histogram;
mod hits;
mod info;
mod labels;
mod series;
#[cfg(all(test, feature = "prometheus"))]
mod tests;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ::metrics::{Label as Tag, Recorder};

#[cfg(feature = "prometheus")]
pub use exporter::set_buckets;
pub use series::{Label, Series, SeriesKind, describe};

pub(crate) use cells::{Counter, Family, Gauge, Latest};
#[cfg(feature = "prometheus")]
pub(crate) use exporter::serve;
pub(crate) use histogram::Histogram;
pub(crate) use hits::Hits;
pub(crate) use info::InstanceInfo;
pub(crate) use labels::{
    Audited, Collapse, Dropped, Fence, Gap, Kind, Labels, LaneWait, LoadOutcome, Mended, Miss,
    Repair, Scope, Side, StaleFor, Verification, WriteOutcome,
};
#[cfg(feature = "shared")]
pub(crate) use labels::{SharedRead, SharedStore, SharedWait};
pub(crate) use series::{CacheMetrics, InstanceMetrics};

use crate::contain::contained;
use crate::lock::Lock;
use fold::{Fold, Seen};

/// Installed recorders that an instance remembers having told.
/// A program can install one; a second appears only where a thread has a local one (in tests).
const MAX_RECORDERS: usize = 4;

/// Folds that one thread makes one after the other, for others that came meanwhile: the last fold of an
/// instance that closes is among them. A recorder that folds in turn must not keep it for ever.
const ROUNDS: usize = 4;

/// All metrics of one instance; its fields are those of [`InstanceMetrics`].
#[derive(Debug)]
pub(crate) struct Metrics {
    counted: InstanceMetrics,
    caches: Lock<Vec<Arc<CacheScope>>>,
    installed: Lock<Turn>,
    closed: AtomicBool,
    #[cfg(feature = "prometheus")]
    own: exporter::Own,
    #[cfg(feature = "prometheus")]
    own_told: Lock<Told>,
}

/// What the program's recorders have been told. A recorder is the program's own code, so what it is
/// told is taken out while it listens, and no lock is held.
#[derive(Debug)]
struct Turn {
    /// None while one thread folds.
    told: Option<Vec<(usize, Told)>>,
    /// Another thread came meanwhile: the one that folds does it once more.
    again: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            told: Some(Vec::new()),
            again: false,
        }
    }
}

#[derive(Debug)]
struct CacheScope {
    /// The label `cache`.
    tag: Tag,
    counted: Arc<CacheMetrics>,
}

/// What one recorder has been told, by the instance and by each of its caches.
#[derive(Debug, Default)]
struct Told {
    described: bool,
    instance: Seen,
    caches: Vec<Seen>,
}

/// The settings of a cache that dashboards and alerts need to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheInfo {
    pub(crate) ttl: Duration,
    /// `None` is off.
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) negative_ttl: Duration,
    /// Entries.
    pub(crate) capacity: u64,
}

impl Metrics {
    pub(crate) fn new(info: InstanceInfo) -> Arc<Self> {
        Arc::new(Self {
            counted: InstanceMetrics {
                verified_age: cells::PerLane::new(info.lanes),
                settings: info,
                ..InstanceMetrics::default()
            },
            caches: Lock::default(),
            installed: Lock::default(),
            closed: AtomicBool::new(false),
            #[cfg(feature = "prometheus")]
            own: exporter::Own::new(),
            #[cfg(feature = "prometheus")]
            own_told: Lock::default(),
        })
    }

    /// The metrics of a cache; the same ones if its name is not new.
    pub(crate) fn cache(&self, name: &str, info: CacheInfo) -> Arc<CacheMetrics> {
        let counted = self.counted_of(name);
        counted.ttl.set(info.ttl);
        counted
            .max_staleness
            .set(info.max_staleness.unwrap_or_default());
        counted.negative_ttl.set(info.negative_ttl);
        counted.capacity.set(info.capacity);
        counted
    }

    fn counted_of(&self, name: &str) -> Arc<CacheMetrics> {
        let mut caches = self.caches.lock();
        if let Some(known) = caches.iter().find(|cache| cache.tag.value() == name) {
            return known.counted.clone();
        }
        let counted = Arc::default();
        caches.push(Arc::new(CacheScope {
            tag: Tag::new("cache", name.to_owned()),
            counted: Arc::clone(&counted),
        }));
        counted
    }

    fn scopes(&self) -> Vec<Arc<CacheScope>> {
        self.caches.lock().clone()
    }

    /// Where the bus counts its bytes.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::new(Traffic {
            sent: Arc::clone(&self.sent_bytes),
            received: Arc::clone(&self.received_bytes),
        })
    }

    /// Moves what was counted since the last fold into the own and the installed recorder.
    /// Once a second, from one task.
    pub(crate) fn fold(&self) {
        #[cfg(feature = "prometheus")]
        self.fold_own();
        ::metrics::with_recorder(|recorder| self.fold_into(recorder));
    }

    /// Moves what `recorder` has not been told yet, and goes round once more for everybody who came
    /// meanwhile: on another thread, or from the recorder itself.
    fn fold_into(&self, recorder: &dyn Recorder) {
        for _ in 0..ROUNDS {
            let taken = {
                let mut turn = self.installed.lock();
                let told = turn.told.take();
                turn.again |= told.is_none();
                told
            };
            let Some(mut told) = taken else { return };
            // One that panics has been told some numbers, and is told them again.
            contained(|| self.tell_installed(&mut told, recorder));
            let mut turn = self.installed.lock();
            turn.told = Some(told);
            if !std::mem::take(&mut turn.again) {
                return;
            }
        }
    }

    /// A recorder is known by its address; one that is new gets everything since the start.
    fn tell_installed(&self, installed: &mut Vec<(usize, Told)>, recorder: &dyn Recorder) {
        let address = std::ptr::from_ref(recorder).addr();
        let known = installed.iter().position(|(known, _)| *known == address);
        let index = known.unwrap_or_else(|| {
            if installed.len() == MAX_RECORDERS {
                installed.remove(0);
            }
            installed.push((address, Told::default()));
            installed.len() - 1
        });
        self.tell(&self.scopes(), &mut installed[index].1, recorder);
    }

    fn tell(&self, caches: &[Arc<CacheScope>], told: &mut Told, recorder: &dyn Recorder) {
        if !told.described {
            describe()
                .iter()
                .for_each(|series| series.describe(recorder));
            told.described = true;
        }
        let closed = self.closed.load(Relaxed);
        self.counted
            .fold(&mut Fold::new(recorder, &mut told.instance, None, closed));
        told.caches.resize_with(caches.len(), Seen::default);
        for (cache, seen) in caches.iter().zip(&mut told.caches) {
            cache
                .counted
                .fold(&mut Fold::new(recorder, seen, Some(&cache.tag), closed));
        }
    }

    #[cfg(feature = "prometheus")]
    fn fold_own(&self) {
        let scopes = self.scopes();
        self.tell(&scopes, &mut self.own_told.lock(), self.own.recorder());
        self.own.upkeep();
    }

    /// This instance's metrics, up to now, in Prometheus' text format.
    #[cfg(feature = "prometheus")]
    pub(crate) fn text(&self) -> String {
        self.fold_own();
        self.own.render()
    }

    /// Folds a last time and takes this instance's share of the gauges back. Idempotent; what is
    /// counted afterwards (reads go on) is still folded if somebody calls [`fold`](Self::fold).
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.fold();
    }
}

impl Deref for Metrics {
    type Target = InstanceMetrics;

    fn deref(&self) -> &InstanceMetrics {
        &self.counted
    }
}

impl Drop for Metrics {
    /// An instance that was dropped without a shutdown leaves no phantom entries behind.
    fn drop(&mut self) {
        if !self.closed.load(Relaxed) {
            self.close();
        }
    }
}

/// Bytes sent and received, by kind, protocol framing included.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent: Arc<Family<Kind>>,
    received: Arc<Family<Kind>>,
}

impl Traffic {
    pub(crate) fn sent(&self, kind: Kind, bytes: usize) {
        self.sent[kind].add(bytes as u64);
    }

    pub(crate) fn received(&self, kind: Kind, bytes: usize) {
        self.received[kind].add(bytes as u64);
    }

    /// Bytes sent and received so far, of all kinds.
    #[cfg(test)]
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.total(), self.received.total())
    }
}
