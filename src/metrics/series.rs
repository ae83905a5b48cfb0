//! What is said of a metric: its name, type, labels and help.

use ::metrics::{KeyName, Recorder, Unit};

/// One metric of this crate, as [`describe`](crate::metrics::describe) lists it.
///
/// # Examples
///
/// ```
/// use unstale::metrics::{SeriesKind, describe};
///
/// for series in describe().iter().filter(|series| series.name() == "unstale_misses_total") {
///     assert_eq!(series.kind(), SeriesKind::Counter);
///     assert!(series.help().starts_with("Reads that found no entry"));
///     let labels: Vec<&str> = series.labels().map(|label| label.name).collect();
///     assert_eq!(labels, ["cache", "cause"]);
///     assert!(series.buckets().is_empty());
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Series {
    pub(super) name: &'static str,
    pub(super) kind: SeriesKind,
    pub(super) labels: &'static [Label],
    pub(super) bounds: &'static [u64],
    /// The label of what has it, where an instance may have several: `cache` or `source`.
    pub(super) scope: Option<&'static str>,
    pub(super) help: &'static str,
}

/// The type of a metric in Prometheus.
///
/// # Examples
///
/// ```
/// use unstale::metrics::{SeriesKind, describe};
///
/// let counters = describe().iter().filter(|series| series.kind() == SeriesKind::Counter);
/// assert!(counters.into_iter().all(|series| series.name().ends_with("_total")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SeriesKind {
    /// A number that only grows. The name of the metric ends in `_total`.
    Counter,
    /// The current value.
    Gauge,
    /// Durations, counted in buckets.
    Histogram,
}

/// A label of a metric.
///
/// # Examples
///
/// ```
/// use unstale::metrics::describe;
///
/// let misses = describe().iter().find(|series| series.name() == "unstale_misses_total");
/// let cause = misses.and_then(|series| series.labels().find(|label| label.name == "cause"));
/// assert!(cause.is_some_and(|cause| cause.values.contains(&"expired")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// All values that the label can have. The list is empty if the program decides on the values, such as
    /// the names of caches.
    pub values: &'static [&'static str],
}

impl Series {
    /// Returns the name of the metric.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the type of the metric.
    #[must_use]
    pub fn kind(&self) -> SeriesKind {
        self.kind
    }

    /// Returns the labels of the metric. The first one is `cache` for a metric of a cache, and `source` for a metric
    /// of a relay.
    pub fn labels(&self) -> impl Iterator<Item = Label> + use<> {
        let scope = self.scope.map(|name| Label { name, values: &[] });
        scope.into_iter().chain(self.labels.iter().copied())
    }

    /// Returns what the metric counts, in a sentence.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// Returns the upper bounds of the buckets of a histogram, in seconds; nothing for other types.
    #[must_use]
    pub fn buckets(&self) -> Vec<f64> {
        self.bounds
            .iter()
            .map(|nanos| *nanos as f64 / 1e9)
            .collect()
    }

    /// Gives name, unit and help to a recorder.
    pub(super) fn describe(&self, recorder: &dyn Recorder) {
        let (name, help) = (KeyName::from_const_str(self.name), self.help.into());
        match self.kind {
            SeriesKind::Counter => recorder.describe_counter(name, self.unit(), help),
            SeriesKind::Gauge => recorder.describe_gauge(name, self.unit(), help),
            SeriesKind::Histogram => recorder.describe_histogram(name, self.unit(), help),
        }
    }

    fn unit(&self) -> Option<Unit> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        if name.ends_with("_seconds") {
            Some(Unit::Seconds)
        } else if name.ends_with("_bytes") {
            Some(Unit::Bytes)
        } else {
            None
        }
    }
}
