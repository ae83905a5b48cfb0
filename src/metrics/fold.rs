//! Moving what was counted since the last time into a `metrics` recorder.

use ::metrics::{Key, Label as Tag, Level, Metadata, Recorder};

use super::series::Series;

/// Samples of one histogram that a fold hands over at most.
/// Recorders keep every sample until their upkeep (24 bytes each in the Prometheus exporter) and a
/// fold takes about 60 ns a sample: 1,000 are 24 KB and 60 us, and still place a quantile to 0.1 %.
pub(super) const MAX_SAMPLES: usize = 1_000;

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// What was reported to a recorder already, by one instance, one of its relays or one of its caches.
///
/// The series are folded in the same order every time, so their last values are distinguished by
/// their place alone.
#[derive(Debug, Default)]
pub(super) struct Seen {
    values: Vec<u64>,
    next: usize,
}

impl Seen {
    /// The next value; 0 at the first fold.
    fn next(&mut self) -> &mut u64 {
        if self.next == self.values.len() {
            self.values.push(0);
        }
        self.next += 1;
        &mut self.values[self.next - 1]
    }
}

/// One fold of one instance, of a relay or of a cache, into one recorder.
pub(super) struct Fold<'a> {
    recorder: &'a dyn Recorder,
    seen: &'a mut Seen,
    /// The label `cache` of a cache, or `source` of a relay.
    scope: Option<&'a Tag>,
    closed: bool,
    from_zero: bool,
}

impl<'a> Fold<'a> {
    /// A `closed` instance takes its share of the gauges back and leaves the others alone.
    pub(super) fn new(
        recorder: &'a dyn Recorder,
        seen: &'a mut Seen,
        scope: Option<&'a Tag>,
        closed: bool,
    ) -> Self {
        seen.next = 0;
        Self {
            recorder,
            seen,
            scope,
            closed,
            from_zero: false,
        }
    }

    /// Whether histograms take what there is for reported.
    pub(super) fn set_from_zero(&mut self, from_zero: bool) -> &mut Self {
        self.from_zero = from_zero;
        self
    }

    /// Adds what a counter grew by.
    pub(super) fn counter(&mut self, series: &'static Series, tags: Vec<Tag>, total: u64) {
        let key = self.key(series, tags);
        let seen = self.seen.next();
        // Adding 0 makes the series exist, and keeps it from a recorder's idle timeout.
        self.recorder
            .register_counter(&key, &METADATA)
            .increment(total.saturating_sub(*seen));
        *seen = total;
    }

    /// Adds the change of a gauge that several instances share.
    pub(super) fn gauge_share(&mut self, series: &'static Series, value: u64) {
        let key = self.key(series, Vec::new());
        let value = if self.closed { 0 } else { value };
        let gauge = self.recorder.register_gauge(&key, &METADATA);
        let seen = self.seen.next();
        if value >= *seen {
            gauge.increment((value - *seen) as f64);
        } else {
            gauge.decrement((*seen - value) as f64);
        }
        *seen = value;
    }

    /// Sets a gauge that cannot be added up.
    pub(super) fn gauge_latest(&mut self, series: &'static Series, tags: Vec<Tag>, value: f64) {
        if !self.closed {
            let key = self.key(series, tags);
            self.recorder.register_gauge(&key, &METADATA).set(value);
        }
    }

    /// Replays what each bucket grew by, as samples from the middle of the bucket.
    /// More than [`MAX_SAMPLES`] are thinned out in proportion.
    pub(super) fn histogram(&mut self, series: &'static Series, counts: &[u64]) {
        let key = self.key(series, Vec::new());
        let histogram = self.recorder.register_histogram(&key, &METADATA);
        let grown: Vec<u64> = counts
            .iter()
            .map(|count| {
                let seen = self.seen.next();
                count.saturating_sub(std::mem::replace(seen, *count))
            })
            .collect();
        let grown = if self.from_zero {
            vec![0; grown.len()]
        } else {
            grown
        };
        let total: u64 = grown.iter().sum();
        // What is carried over can add less than one sample a bucket.
        let budget = (MAX_SAMPLES - counts.len()) as f64;
        let share = (budget / total as f64).min(1.0);
        for (bucket, grown) in grown.into_iter().enumerate() {
            // A bucket too rare for a sample in this fold gets one in a later fold: without this
            // the slow tail of a busy histogram would never show.
            let carried = self.seen.next();
            let due = if share < 1.0 {
                let due = f64::from_bits(*carried) + grown as f64 * share;
                *carried = due.fract().to_bits();
                due as usize
            } else {
                grown as usize
            };
            if due > 0 {
                histogram.record_many(middle(series.bounds, bucket), due);
            }
        }
    }

    fn key(&self, series: &'static Series, mut tags: Vec<Tag>) -> Key {
        if let Some(scope) = self.scope {
            tags.insert(0, scope.clone());
        }
        Key::from_parts(series.name, tags)
    }
}

/// A value in seconds that stands for a bucket: the geometric middle of its bounds.
/// The first bucket has no lower bound and the last no upper one: half and twice the other.
fn middle(bounds: &[u64], bucket: usize) -> f64 {
    let seconds = |bucket: usize| bounds[bucket] as f64 / 1e9;
    if bucket == 0 {
        seconds(0) / 2.0
    } else if bucket == bounds.len() {
        seconds(bucket - 1) * 2.0
    } else {
        (seconds(bucket - 1) * seconds(bucket)).sqrt()
    }
}
