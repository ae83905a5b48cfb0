//! The table: every series' name, type, labels and help, next to the field that feeds it.

use std::sync::{Arc, LazyLock};

use ::metrics::{KeyName, Recorder, Unit};

use super::cells::{Metric, PerLane};
use super::fold::Fold;
use super::histogram::Overage;
use super::hits::HIT_AGE;
use super::info::BuildInfo;
use super::labels::{
    Audited, Collapse, Dropped, Fence, Gap, Kind, LaneWait, LoadOutcome, Mended, Miss, Repair,
    Scope, SharedRead, SharedStore, SharedWait, Side, StaleFor, Verification, WriteOutcome,
};
use super::{Counter, Family, Gauge, Histogram, Hits, InstanceInfo, Latest};

/// One metric of this crate, as [`describe`] lists it.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    pub(super) name: &'static str,
    pub(super) kind: SeriesKind,
    pub(super) labels: &'static [Label],
    pub(super) bounds: &'static [u64],
    pub(super) per_cache: bool,
    pub(super) help: &'static str,
}

/// What a metric is to Prometheus.
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

    /// Its labels; `cache` is the first of every metric that a cache has.
    pub fn labels(&self) -> impl Iterator<Item = Label> + use<> {
        let cache = self.per_cache.then_some(Label {
            name: "cache",
            values: &[],
        });
        cache.into_iter().chain(self.labels.iter().copied())
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

/// Every metric of this crate, for documentation, dashboards and tests that check them.
///
/// ```
/// for series in unstale::metrics::describe() {
///     println!("{} ({:?}): {}", series.name(), series.kind(), series.help());
/// }
/// ```
#[must_use]
pub fn describe() -> &'static [Series] {
    static ALL: LazyLock<Vec<Series>> =
        LazyLock::new(|| [InstanceMetrics::SERIES, CacheMetrics::SERIES, &[*HIT_AGE]].concat());
    &ALL
}

/// Defines a struct of metrics from one line each: field, type, name and help.
macro_rules! series {
    ($(#[$meta:meta])* $name:ident, per_cache: $per_cache:literal {
        $($field:ident: $metric:ty, $series:literal, $help:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            $(#[doc = $help] pub(crate) $field: $metric,)*
        }

        impl $name {
            const SERIES: &'static [Series] = &[$(Series {
                name: concat!("unstale_", $series),
                kind: <$metric as Metric>::KIND,
                labels: <$metric as Metric>::LABELS,
                bounds: <$metric as Metric>::BOUNDS,
                per_cache: $per_cache,
                help: $help,
            },)*];

            /// Hands every metric to the fold, always in the same order.
            pub(super) fn fold(&self, fold: &mut Fold<'_>) {
                let mut series = Self::SERIES.iter();
                $(if let Some(series) = series.next() {
                    self.$field.fold(series, fold);
                })*
            }
        }
    };
}

series! {
    /// What one instance counts.
    InstanceMetrics, per_cache: false {
        published: Counter, "events_published_total", "Events that Redis acknowledged to this instance.";
        received: Counter, "events_received_total", "Events delivered by the subscription.";
        applied: Counter, "events_applied_total", "Received events that were applied.";
        dropped: Family<Dropped>, "events_dropped_total", "Received events, or operations in them, that were not applied.";
        sent_bytes: Arc<Family<Kind>>, "bus_sent_bytes_total", "Bytes sent to Redis, protocol included, TLS and TCP excluded.";
        received_bytes: Arc<Family<Kind>>, "bus_received_bytes_total", "Bytes received from Redis, protocol included, TLS and TCP excluded.";
        propagation: Histogram, "propagation_seconds", "From sending an own event to its delivery back to this instance.";
        publish: Histogram, "publish_seconds", "From enqueueing an invalidation to its acknowledgement by Redis.";
        gaps: Family<Gap>, "gaps_total", "Times that events of a lane may have been missed.";
        repairs: Family<Repair>, "repairs_total", "Attempts to fill a gap from the journal.";
        fences: Family<Fence>, "fences_total", "Times that everything of a lane was dropped.";
        verifications: Family<Verification>, "verifications_total", "Verifications of a lane.";
        verified_age: PerLane, "verified_age_seconds", "Time since all events of the lane were known to be applied.";
        lane_waits: Family<LaneWait>, "lane_waits_total", "Reads that waited for their lane to be verified.";
        connected: Gauge, "connected", "Instances of this process whose bus is connected.";
        mends: Family<Mended>, "subscription_mends_total", "Subscriptions mended because they did not deliver.";
        outbox_keys: Gauge, "outbox_keys", "Keys, tags, caches and lanes waiting to be published.";
        collapses: Family<Collapse>, "outbox_collapses_total", "Times that the full outbox was collapsed.";
        publish_failures: Counter, "publish_failures_total", "Attempts to publish that failed; they are retried.";
        republished: Counter, "republished_total", "Events published again because no later verification confirmed them.";
        open_writes: Gauge, "open_writes", "Writes whose intents are not cleared yet.";
        writes: Family<WriteOutcome>, "writes_total", "Crash-safe writes, by how they ended.";
        recovered_writes: Counter, "recovered_writes_total", "Writes of dead instances that this one finished invalidating.";
        shared_trips: Counter, "shared_trips_total", "Times that the breaker of the shared tier opened.";
        shared_broken: Gauge, "shared_broken", "Instances of this process whose breaker of the shared tier is open.";
        clock_jumps: Counter, "clock_jumps_total", "Times that a clock jumped and every lane was fenced.";
        build: BuildInfo, "build_info", "Always 1; the label is this crate's version.";
        settings: InstanceInfo, "settings_info", "Always 1; the labels are the instance's settings.";
    }
}

series! {
    /// What one cache of an instance counts.
    CacheMetrics, per_cache: true {
        hits: Hits, "hits_total", "Reads answered with a value from memory.";
        negative_hits: Counter, "negative_hits_total", "Reads answered from memory with 'does not exist'.";
        misses: Family<Miss>, "misses_total", "Reads that found no entry they could serve and led a load, by what was missing.";
        coalesced: Counter, "coalesced_total", "Reads that shared a load which another read led.";
        loads: Family<LoadOutcome>, "loads_total", "Loads, by how they ended.";
        load_duration: Histogram, "load_duration_seconds", "How long loads took.";
        loads_in_flight: Gauge, "loads_in_flight", "Loads under way.";
        loads_discarded: Counter, "loads_discarded_total", "Loaded values not stored because an invalidation came meanwhile.";
        invalidations: Family<(Scope, Side)>, "invalidations_total", "Invalidations applied to this cache.";
        entries: Gauge, "entries", "Entries held.";
        weight: Gauge, "weight_bytes", "What the entries weigh, by the cache's weigher.";
        evictions: Counter, "evictions_total", "Entries evicted to make room.";
        oversized: Counter, "oversized_total", "Values served but not stored because they weigh too much.";
        reaped: Counter, "reaped_total", "Expired entries removed before anyone read them.";
        refreshes: Counter, "refreshes_total", "Background loads begun ahead of the TTL.";
        stale_if_error: Counter, "stale_if_error_total", "Expired entries served because their loader failed.";
        audits: Family<Audited>, "audits_total", "Hits compared with the source by the audit.";
        audit_stale: Family<StaleFor>, "audit_stale_total", "Audited values still served, and still not what the source has, so long after the staleness bound.";
        expiry_overage: Histogram<Overage>, "expiry_overage_seconds", "How long past its TTL an expired entry was found by a read.";
        shared_reads: Family<SharedRead>, "shared_reads_total", "Reads of the shared tier, by what it had.";
        shared_stores: Family<SharedStore>, "shared_stores_total", "Values for the shared tier, by what became of them.";
        shared_waits: Family<SharedWait>, "shared_waits_total", "Waits for a load of another instance, by how they ended.";
        ttl: Latest, "ttl_seconds", "The cache's TTL.";
        max_staleness: Latest, "max_staleness_seconds", "The cache's staleness bound; 0 if off.";
        negative_ttl: Latest, "negative_ttl_seconds", "How long 'does not exist' is remembered.";
        capacity: Gauge, "capacity_entries", "Most entries held.";
    }
}

impl CacheMetrics {
    /// Counts a hit on an entry of this age, in nanoseconds: one plain load and store.
    #[inline]
    pub(crate) fn hit(&self, age: u64) {
        self.hits.record(age);
    }

    /// Hits so far; cheap enough for twice a second.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.get()
    }
}
