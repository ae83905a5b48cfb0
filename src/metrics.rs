//! Every metric: names, labels, help, and how they reach Prometheus.
//!
//! The crate counts into plain atomics and looks nothing up by name.
//! Once a second, an instance *folds*: it adds what it has counted since the last fold
//! to two recorders of the [`metrics`](https://docs.rs/metrics) crate:
//!
//! - its own Prometheus recorder, which it never installs globally, for `metrics_text` and for the
//!   listener at `UNSTALE_METRICS_ADDR` (feature `prometheus`);
//! - the recorder that the program has installed, even if after the instance started.
//!
//! A program with a Prometheus recorder of its own should give it the buckets of
//! [`histogram_buckets`]. Without buckets, the exporter renders histograms as summaries.
//!
//! Several instances in a process share the series of the program: their counters are summed, and so are
//! amounts such as `unstale_entries`. An instance that closes takes its share back.
//! Each histogram hands over at most 1,000 samples a fold, thinned out in proportion. Its quantiles are
//! right, but its `_count` is not the number of events: use the `_total` counters for that.

mod cells;
#[cfg(feature = "prometheus")]
mod exporter;
mod fold;
mod histogram;
mod hits;
mod info;
pub(crate) mod labels;
#[cfg(feature = "prometheus")]
mod listener;
mod registry;
mod series;
mod sources;
mod table;
#[cfg(all(test, feature = "prometheus"))]
mod tests;
mod traffic;

pub use series::{Label, Series, SeriesKind};
pub use table::{describe, histogram_buckets};

pub(crate) use info::InstanceInfo;
pub(crate) use labels::{
    Audited, Collapse, Dropped, Fence, Gap, Kind, LaneWait, LoadOutcome, MissCause as Miss, Repair,
    Scope, Side, StaleFor, SubscriptionMethod, Verification, WriteOutcome, label,
};
#[cfg(any(test, feature = "test-util", feature = "relay"))]
pub(crate) use labels::{RelayCollapse, RelayState};
#[cfg(feature = "shared")]
pub(crate) use labels::{SharedRead, SharedStore, SharedWait};
#[cfg(feature = "prometheus")]
pub(crate) use listener::serve;
pub(crate) use registry::{CacheInfo, Metrics};
pub(crate) use table::CacheMetrics;
#[cfg(any(test, feature = "test-util", feature = "relay"))]
pub(crate) use table::RelayMetrics;
pub(crate) use traffic::Traffic;
