//! What is said of a metric: its name, type, labels and help.

use ::metrics::{KeyName, Recorder, Unit};

/// One metric of this crate, as [`describe`](crate::metrics::describe) lists it.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::metrics::{SeriesKind, describe};
///
/// let series = describe().iter().find(|series| series.name() == "unstale_loads_total");
/// let loads = series.ok_or("there is none")?;
/// assert_eq!(loads.kind(), SeriesKind::Counter);
/// assert_eq!(loads.labels().next().map(|label| label.name), Some("cache"));
/// assert!(!loads.help().is_empty() && loads.buckets().is_empty());
/// # Ok(())
/// # }
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

/// What a metric is to Prometheus.
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
    /// Only grows; its name ends in `_total`.
    Counter,
    /// A present value.
    Gauge,
    /// Durations in buckets.
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
/// let causes = misses.into_iter().flat_map(|series| series.labels()).find(|label| label.name == "cause");
/// assert!(causes.is_some_and(|causes| causes.values.contains(&"invalidated")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All values it can have; empty if the program decides (a cache's name, for example).
    pub values: &'static [&'static str],
}

impl Series {
    /// The metric's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> SeriesKind {
        self.kind
    }

    /// Its labels; `cache` is the first of every metric that a cache has, and `source` of every one that a relay has.
    pub fn labels(&self) -> impl Iterator<Item = Label> + use<> {
        let scope = self.scope.map(|name| Label { name, values: &[] });
        scope.into_iter().chain(self.labels.iter().copied())
    }

    /// What it counts, in a sentence.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// The upper bounds of a histogram's buckets in seconds; empty for other types.
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
