//! How often durations fell into each bucket.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::cells::Metric;
use super::fold::Fold;
use super::series::{Series, SeriesKind};

/// The bounds of a histogram's buckets.
pub(crate) trait Bounds {
    /// Upper bounds (inclusive) in nanoseconds, ascending; a last bucket takes what is above.
    const NANOS: &'static [u64];
}

/// For network round trips and loads: 50 us to 5 s, in steps of 1 : 2 : 5.
#[derive(Debug)]
pub(crate) enum Latency {}

impl Bounds for Latency {
    const NANOS: &'static [u64] = &[
        50_000,
        100_000,
        200_000,
        500_000,
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        50_000_000,
        100_000_000,
        200_000_000,
        500_000_000,
        1_000_000_000,
        2_000_000_000,
        5_000_000_000,
    ];
}

/// For how long something lay around: 10 ms to about 3 hours, in steps of 1 : 4.
#[derive(Debug)]
pub(crate) enum Overage {}

impl Bounds for Overage {
    const NANOS: &'static [u64] = &[
        10_000_000,
        40_000_000,
        160_000_000,
        640_000_000,
        2_560_000_000,
        10_240_000_000,
        40_960_000_000,
        163_840_000_000,
        655_360_000_000,
        2_621_440_000_000,
        10_485_760_000_000,
    ];
}

/// How often durations fell into each bucket.
pub(crate) struct Histogram<B = Latency> {
    buckets: Box<[AtomicU64]>,
    bounds: PhantomData<fn(B)>,
}

impl<B: Bounds> Histogram<B> {
    pub(crate) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = B::NANOS.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
    }
}

impl<B: Bounds> Default for Histogram<B> {
    fn default() -> Self {
        Self {
            buckets: (0..=B::NANOS.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds: PhantomData,
        }
    }
}

impl<B> fmt::Debug for Histogram<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.buckets).finish()
    }
}

impl<B: Bounds> Metric for Histogram<B> {
    const KIND: SeriesKind = SeriesKind::Histogram;
    const BOUNDS: &'static [u64] = B::NANOS;

    fn fold(&self, series: &'static Series, fold: &mut Fold<'_>) {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Relaxed))
            .collect();
        fold.histogram(series, &counts);
    }
}
