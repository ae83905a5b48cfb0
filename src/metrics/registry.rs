//! All metrics of one instance, and what is reported of them to recorders.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ::metrics::{Label as Tag, Recorder};

use super::cells::PerLane;
#[cfg(feature = "prometheus")]
use super::exporter::Own;
use super::fold::{Fold, Seen};
use super::info::InstanceInfo;
use super::sources::Named;
use super::table::{CacheMetrics, InstanceMetrics, RelayMetrics, describe};
use super::traffic::Traffic;
use crate::contain::contained;
use crate::lock::Lock;
use crate::time::Nanos;

/// Installed recorders that an instance remembers.
/// A program can install one; a second appears only where a thread has a local one (in tests).
const MAX_RECORDERS: usize = 4;

/// Folds that one thread makes one after the other, for others that came meanwhile: the last fold of an
/// instance that closes is among them. A recorder that folds in turn must not keep it without end.
const ROUNDS: usize = 4;

/// All metrics of one instance; its fields are those of [`InstanceMetrics`].
#[derive(Debug)]
pub(crate) struct Metrics {
    counted: InstanceMetrics,
    caches: Lock<Caches>,
    /// By source; none of an instance that relays nothing.
    relays: Named<Arc<RelayMetrics>>,
    installed: Lock<Turn>,
    closed: AtomicBool,
    #[cfg(feature = "prometheus")]
    own: Lock<(Own, Reported)>,
}

/// What was reported to the program's recorders. A recorder is the program's own code, so this is
/// taken out while the recorder runs, and no lock is held.
#[derive(Debug)]
struct Turn {
    /// None while one thread folds.
    reported: Option<Vec<(usize, Reported)>>,
    /// Another thread came meanwhile: the one that folds does it once more.
    again: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            reported: Some(Vec::new()),
            again: false,
        }
    }
}

#[derive(Debug)]
struct CacheScope {
    /// No other scope of the instance has had it; they ascend.
    id: u64,
    /// The label `cache`.
    tag: Tag,
    counted: Arc<CacheMetrics>,
    /// The cache is gone: its gauges go back to nothing, and then the scope goes.
    retired: AtomicBool,
}

/// The caches that are there, and those that have gone and are to be folded once more.
#[derive(Debug, Default)]
struct Caches {
    scopes: Vec<Arc<CacheScope>>,
    last_id: u64,
}

/// What was reported to one recorder, by the instance and by each of its caches.
#[derive(Debug, Default)]
struct Reported {
    described: bool,
    /// It takes the place of another one: counters go on, and histograms begin again with what comes.
    from_zero: bool,
    instance: Seen,
    /// In the order of the relays.
    relays: Vec<Seen>,
    /// By the scope's id.
    caches: BTreeMap<u64, Seen>,
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

impl CacheScope {
    fn is_there(&self) -> bool {
        !self.retired.load(Relaxed)
    }
}

impl Metrics {
    pub(crate) fn new(info: InstanceInfo) -> Arc<Self> {
        Arc::new(Self {
            counted: InstanceMetrics {
                verified_age: PerLane::new(info.lanes),
                delivery_pause: PerLane::new(info.lanes),
                settings: info,
                ..InstanceMetrics::default()
            },
            caches: Lock::default(),
            relays: Named::default(),
            installed: Lock::default(),
            closed: AtomicBool::new(false),
            #[cfg(feature = "prometheus")]
            own: Lock::new((Own::new(), Reported::default())),
        })
    }

    /// The metrics of a cache; the same ones if there is one of its name.
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
        let there = |scope: &&Arc<CacheScope>| scope.is_there() && scope.tag.value() == name;
        if let Some(known) = caches.scopes.iter().find(there) {
            return known.counted.clone();
        }
        let counted = Arc::default();
        caches.last_id += 1;
        let scope = CacheScope {
            id: caches.last_id,
            tag: Tag::new("cache", name.to_owned()),
            counted: Arc::clone(&counted),
            retired: AtomicBool::new(false),
        };
        caches.scopes.push(Arc::new(scope));
        counted
    }

    /// The cache of these metrics is gone: its series go with the next fold.
    pub(crate) fn retire(&self, counted: &Arc<CacheMetrics>) {
        let caches = self.caches.lock();
        let scope = caches
            .scopes
            .iter()
            .find(|it| Arc::ptr_eq(&it.counted, counted));
        if let Some(scope) = scope {
            scope.retired.store(true, Relaxed);
        }
    }

    /// The metrics of the relay of a source, which have no series before.
    #[cfg(any(test, feature = "test-util", feature = "relay"))]
    pub(crate) fn relay(&self, source: &str) -> Arc<RelayMetrics> {
        self.relays.get(source).cloned().unwrap_or_default()
    }

    /// Brings what relays lag behind up to date.
    pub(crate) fn measure_relays(&self, now: Nanos) {
        for (_, relay) in self.relays.iter() {
            relay.lag.measure(now);
        }
    }

    fn scopes(&self) -> Vec<Arc<CacheScope>> {
        self.caches.lock().scopes.clone()
    }

    /// Forgets those that had gone before they were folded.
    fn forget(&self, folded: &[Arc<CacheScope>]) {
        let gone: BTreeSet<u64> = folded
            .iter()
            .filter(|scope| !scope.is_there())
            .map(|scope| scope.id)
            .collect();
        if !gone.is_empty() {
            let mut caches = self.caches.lock();
            caches.scopes.retain(|scope| !gone.contains(&scope.id));
        }
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
        let gone: Vec<_> = self
            .scopes()
            .into_iter()
            .filter(|it| !it.is_there())
            .collect();
        #[cfg(feature = "prometheus")]
        self.fold_own();
        ::metrics::with_recorder(|recorder| self.fold_into(recorder));
        self.forget(&gone);
    }

    /// Moves what was not reported to `recorder` yet, and goes round once more for calls that came
    /// meanwhile: on another thread, or from the recorder itself.
    pub(super) fn fold_into(&self, recorder: &dyn Recorder) {
        for _ in 0..ROUNDS {
            let taken = {
                let mut turn = self.installed.lock();
                let reported = turn.reported.take();
                turn.again |= reported.is_none();
                reported
            };
            let Some(mut reported) = taken else { return };
            // One that panics has got some numbers, and gets them again.
            contained(|| self.report_to_installed(&mut reported, recorder));
            let mut turn = self.installed.lock();
            turn.reported = Some(reported);
            if !std::mem::take(&mut turn.again) {
                return;
            }
        }
    }

    /// A recorder is known by its address; one that is new gets everything since the start.
    fn report_to_installed(&self, installed: &mut Vec<(usize, Reported)>, recorder: &dyn Recorder) {
        let address = std::ptr::from_ref(recorder).addr();
        let known = installed.iter().position(|(known, _)| *known == address);
        let index = known.unwrap_or_else(|| {
            if installed.len() == MAX_RECORDERS {
                installed.remove(0);
            }
            installed.push((address, Reported::default()));
            installed.len() - 1
        });
        self.report(&self.scopes(), &mut installed[index].1, recorder);
    }

    fn report(&self, caches: &[Arc<CacheScope>], reported: &mut Reported, recorder: &dyn Recorder) {
        if !reported.described {
            describe()
                .iter()
                .for_each(|series| series.describe(recorder));
            reported.described = true;
        }
        let closed = self.closed.load(Relaxed);
        let from_zero = std::mem::take(&mut reported.from_zero);
        let mut fold = Fold::new(recorder, &mut reported.instance, None, closed);
        self.counted.fold(fold.set_from_zero(from_zero));
        for (index, (source, counted)) in self.relays.iter().enumerate() {
            if reported.relays.len() == index {
                reported.relays.push(Seen::default());
            }
            let seen = &mut reported.relays[index];
            let mut fold = Fold::new(recorder, seen, Some(source), closed);
            counted.fold(fold.set_from_zero(from_zero));
        }
        // Both ascend.
        let there = |id: &u64| caches.binary_search_by_key(id, |scope| scope.id).is_ok();
        reported.caches.retain(|id, _| there(id));
        for cache in caches {
            let seen = reported.caches.entry(cache.id).or_default();
            let closed = closed || !cache.is_there();
            let mut fold = Fold::new(recorder, seen, Some(&cache.tag), closed);
            cache.counted.fold(fold.set_from_zero(from_zero));
        }
    }

    #[cfg(feature = "prometheus")]
    fn fold_own(&self) {
        let mut scopes = self.scopes();
        let (own, reported) = &mut *self.own.lock();
        self.report(&scopes, reported, own.recorder());
        own.upkeep();
        let names = scopes
            .iter()
            .map(|scope| (scope.tag.value(), scope.is_there()));
        if own.note(names) {
            *own = Own::new();
            *reported = Reported {
                from_zero: true,
                ..Reported::default()
            };
            scopes.retain(|scope| scope.is_there());
            self.report(&scopes, reported, own.recorder());
        }
    }

    /// This instance's metrics, up to now, in Prometheus' text format.
    #[cfg(feature = "prometheus")]
    pub(crate) fn text(&self) -> String {
        self.fold_own();
        let page = self.own.lock().0.page();
        page.render()
    }

    /// Folds a last time and takes this instance's share of the gauges back. Idempotent; what is
    /// counted afterwards (reads go on) is still folded by a later [`fold`](Self::fold).
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
