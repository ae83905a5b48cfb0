//! What the crate counts into: plain atomics, which a fold reads once a second.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ::metrics::Label as Tag;
use tracing::Span;

use super::fold::Fold;
use super::labels::{Labels, label};
use super::series::{Label, Series, SeriesKind};

/// A field of `InstanceMetrics`, `RelayMetrics` or `CacheMetrics`.
pub(super) trait Metric {
    const KIND: SeriesKind;
    const LABELS: &'static [Label] = &[];
    /// Upper bounds of a histogram's buckets, in nanoseconds.
    const BOUNDS: &'static [u64] = &[];

    /// Hands every series of this metric to the fold, always the same ones in the same order.
    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>);
}

impl<M: Metric> Metric for Arc<M> {
    const KIND: SeriesKind = M::KIND;
    const LABELS: &'static [Label] = M::LABELS;
    const BOUNDS: &'static [u64] = M::BOUNDS;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        M::fold(self, series, fold);
    }
}

/// Only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metric for Counter {
    const KIND: SeriesKind = SeriesKind::Counter;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        fold.counter(series, Vec::new(), self.get());
    }
}

/// A [`Counter`] for each value of a label: `gaps[Gap::Sequence].inc()`.
pub(crate) struct Family<L> {
    counters: Box<[Counter]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Family<L> {
    /// All values together.
    pub(crate) fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

impl<L: Labels> Family<L> {
    /// Counts it, and says so in the span of what is counted: both say the same, in the same word.
    pub(crate) fn note(&self, of: L, span: &Span) {
        self[of].inc();
        span.record(L::LABELS[0].name, label(of));
    }
}

impl<L: Labels> Default for Family<L> {
    fn default() -> Self {
        let combinations = L::LABELS.iter().map(|label| label.values.len()).product();
        Self {
            counters: (0..combinations).map(|_| Counter::default()).collect(),
            labels: PhantomData,
        }
    }
}

impl<L: Labels> Index<L> for Family<L> {
    type Output = Counter;

    #[inline]
    fn index(&self, labels: L) -> &Counter {
        &self.counters[labels.index()]
    }
}

impl<L> fmt::Debug for Family<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.counters).finish()
    }
}

impl<L: Labels> Metric for Family<L> {
    const KIND: SeriesKind = SeriesKind::Counter;
    const LABELS: &'static [Label] = L::LABELS;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        for (index, counter) in self.counters.iter().enumerate() {
            fold.counter(series, tags(L::LABELS, index), counter.get());
        }
    }
}

/// The inverse of [`Labels::index`].
pub(super) fn tags(labels: &'static [Label], mut index: usize) -> Vec<Tag> {
    let mut tags = Vec::with_capacity(labels.len() + 1);
    for label in labels.iter().rev() {
        tags.push(Tag::from_static_parts(
            label.name,
            label.values[index % label.values.len()],
        ));
        index /= label.values.len();
    }
    tags.reverse();
    tags
}

/// A present amount. The instances of a process add up in one series, and an instance that closes
/// takes its share back.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0
            .store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    #[inline]
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// At least 0, even if a decrement was seen before its increment.
    pub(crate) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}

impl Metric for Gauge {
    const KIND: SeriesKind = SeriesKind::Gauge;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        fold.gauge_share(series, self.get());
    }
}

/// A value that cannot be added up: in a process with several instances the last fold wins.
#[derive(Debug, Default)]
pub(crate) struct Latest(AtomicU64);

impl Latest {
    pub(crate) fn set(&self, value: Duration) {
        self.set_f64(value.as_secs_f64());
    }

    pub(crate) fn set_f64(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Metric for Latest {
    const KIND: SeriesKind = SeriesKind::Gauge;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        fold.gauge_latest(series, Vec::new(), self.get());
    }
}

/// A [`Latest`] for each lane: `verified_age[lane].set(age)`.
#[derive(Debug, Default)]
pub(crate) struct PerLane(Box<[Latest]>);

impl PerLane {
    pub(super) fn new(lanes: u32) -> Self {
        Self((0..lanes).map(|_| Latest::default()).collect())
    }
}

impl Index<u32> for PerLane {
    type Output = Latest;

    fn index(&self, lane: u32) -> &Latest {
        &self.0[lane as usize]
    }
}

impl Metric for PerLane {
    const KIND: SeriesKind = SeriesKind::Gauge;
    const LABELS: &'static [Label] = &[Label {
        name: "lane",
        values: &[],
    }];

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        for (lane, latest) in self.0.iter().enumerate() {
            let lane = Tag::new("lane", lane.to_string());
            fold.gauge_latest(series, vec![lane], latest.get());
        }
    }
}
