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
//! A program with a Prometheus recorder of its own should give it the buckets of
//! [`histogram_buckets`]; without buckets the exporter renders histograms as summaries.
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
