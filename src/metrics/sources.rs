//! What sources of truth and their relays are measured by.

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ::metrics::Label as Tag;

use super::cells::{Latest, Metric, tags};
use super::fold::Fold;
use super::labels::Labels;
use super::series::{Label, Series, SeriesKind};
use crate::time::Nanos;

/// Sources of one instance that are shown at most: as many as its caches can name.
const MOST: usize = 16;

/// Something for each of a few sources. They come one by one, and none goes, so no lock is needed: a fold of the own
/// recorder holds one already.
#[derive(Debug, Default)]
pub(super) struct Named<T>([OnceLock<(Tag, T)>; MOST]);

impl<T: Default> Named<T> {
    /// That of this source; none where there are too many.
    pub(super) fn get(&self, source: &str) -> Option<&T> {
        let begins = || (Tag::new("source", source.to_owned()), T::default());
        let mut all = self.0.iter().map(|place| place.get_or_init(begins));
        all.find(|(tag, _)| tag.value() == source).map(|(_, of)| of)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Tag, T)> {
        self.0.iter().map_while(OnceLock::get)
    }
}

/// A [`Latest`] for each source that a cache has named.
#[derive(Debug, Default)]
pub(crate) struct PerSource(Named<Latest>);

impl PerSource {
    pub(crate) fn set(&self, source: &str, age: Duration) {
        if let Some(shown) = self.0.get(source) {
            shown.set(age);
        }
    }
}

impl Metric for PerSource {
    const KIND: SeriesKind = SeriesKind::Gauge;
    const LABELS: &'static [Label] = &[Label {
        name: "source",
        values: &[],
    }];

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        for (source, age) in self.0.iter() {
            fold.gauge_latest(series, vec![source.clone()], age.get());
        }
    }
}

/// One value of a label: 1 for that, 0 for the others, and 0 for all before one is set.
pub(crate) struct OneOf<L> {
    /// The place of the value, from 1.
    chosen: AtomicUsize,
    labels: PhantomData<fn(L)>,
}

impl<L> Default for OneOf<L> {
    fn default() -> Self {
        Self {
            chosen: AtomicUsize::new(0),
            labels: PhantomData,
        }
    }
}

impl<L> fmt::Debug for OneOf<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneOf").field(&self.chosen).finish()
    }
}

impl<L: Labels> OneOf<L> {
    #[cfg_attr(
        not(any(test, feature = "test-util", feature = "relay")),
        allow(dead_code, reason = "nothing relays")
    )]
    pub(crate) fn set(&self, value: L) {
        self.chosen.store(value.index() + 1, Relaxed);
    }
}

impl<L: Labels> Metric for OneOf<L> {
    const KIND: SeriesKind = SeriesKind::Gauge;
    const LABELS: &'static [Label] = L::LABELS;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        let chosen = self.chosen.load(Relaxed);
        for index in 0..L::LABELS[0].values.len() {
            let value = f64::from(u8::from(chosen == index + 1));
            fold.gauge_latest(series, tags(L::LABELS, index), value);
        }
    }
}

/// The time since a moment, as it was when it was last measured: what stands still does not say so itself.
#[derive(Debug, Default)]
pub(crate) struct Age {
    /// 0: none.
    since: AtomicU64,
    shown: Latest,
}

#[cfg_attr(
    not(any(test, feature = "test-util", feature = "relay")),
    allow(dead_code, reason = "nothing relays")
)]
impl Age {
    pub(crate) fn restart(&self, at: Nanos) {
        self.since.store(at.max(1), Relaxed);
    }

    /// Leaves one that has begun alone.
    pub(crate) fn begin(&self, at: Nanos) {
        let _ = self.since.compare_exchange(0, at.max(1), Relaxed, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.since.store(0, Relaxed);
        self.shown.set(Duration::ZERO);
    }
}

impl Age {
    pub(crate) fn measure(&self, now: Nanos) {
        let age = match self.since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        self.shown.set(Duration::from_nanos(age));
    }
}

impl Metric for Age {
    const KIND: SeriesKind = SeriesKind::Gauge;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        self.shown.fold(series, fold);
    }
}
