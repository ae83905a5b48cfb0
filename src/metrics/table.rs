//! The table: every series' name, type, labels and help, next to the field that feeds it.

use std::sync::{Arc, LazyLock};

use super::cells::{Counter, Family, Gauge, Latest, Metric, PerLane};
use super::fold::Fold;
use super::histogram::{Histogram, Overage};
use super::hits::{HIT_AGE, Hits};
use super::info::{BuildInfo, InstanceInfo};
use super::labels::{
    Audited, Collapse, Dropped, Fence, Gap, Kind, LaneWait, LoadOutcome, Mended, MissCause as Miss,
    RelayCollapse, RelayState, Repair, Scope, SharedRead, SharedStore, SharedWait, Side, StaleFor,
    Verification, WriteOutcome,
};
use super::series::Series;
use super::sources::{Age, OneOf, PerSource};
use crate::time::Nanos;

/// Every metric of this crate, for documentation, dashboards and tests that check them.
///
/// ```
/// for series in unstale::metrics::describe() {
///     println!("{} ({:?}): {}", series.name(), series.kind(), series.help());
/// }
/// ```
#[must_use]
pub fn describe() -> &'static [Series] {
    static ALL: LazyLock<Vec<Series>> = LazyLock::new(|| {
        [
            InstanceMetrics::SERIES,
            RelayMetrics::SERIES,
            CacheMetrics::SERIES,
            &[*HIT_AGE],
        ]
        .concat()
    });
    &ALL
}

/// Returns the name of each histogram of this crate with the upper bounds of its buckets in seconds,
/// for programs that install a Prometheus recorder of their own.
///
/// Without buckets the exporter renders histograms as summaries, which cannot be added up over
/// instances.
///
/// # Examples
///
/// ```
/// # #[cfg(not(feature = "prometheus"))]
/// # fn main() {}
/// # #[cfg(feature = "prometheus")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
///
/// let mut builder = PrometheusBuilder::new();
/// for (name, bounds) in unstale::metrics::histogram_buckets() {
///     builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?;
/// }
/// let handle = builder.install_recorder()?;
/// # Ok(())
/// # }
/// ```
pub fn histogram_buckets() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    static ALL: LazyLock<Vec<(&str, Vec<f64>)>> = LazyLock::new(|| {
        let histograms = describe().iter().filter(|series| !series.bounds.is_empty());
        histograms
            .map(|series| (series.name, series.buckets()))
            .collect()
    });
    ALL.iter().map(|(name, bounds)| (*name, bounds.as_slice()))
}

/// Defines a struct of metrics from one line each: field, type, name and help.
macro_rules! series {
    ($(#[$meta:meta])* $name:ident, scope: $scope:expr => {
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
                scope: $scope,
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
    InstanceMetrics, scope: None => {
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
        source_verified_age: PerSource, "source_verified_age_seconds", "Time since everything committed in the source was known to be applied, in the lane where that is longest.";
        delivery_pause: PerLane, "delivery_pause_seconds", "Pause after a message to many subscribers of the lane: what is published meanwhile is delivered together.";
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
        clock_jumps: Counter, "clock_jumps_total", "Times that the clocks came apart: all that is held counts as older by as much, and beyond the bound every lane was fenced.";
        build: BuildInfo, "build_info", "Always 1; the label is this crate's version.";
        settings: InstanceInfo, "settings_info", "Always 1; the labels are the instance's settings.";
    }
}

series! {
    /// What the relay of one source counts.
    RelayMetrics, scope: Some("source") => {
        state: OneOf<RelayState>, "relay_state", "1 for what the relay does: it leads, waits for another relay, or opens the log.";
        lag: Age, "relay_lag_seconds", "Time since all that instances wait for was proven; 0 while another relay leads.";
        lag_bytes: Gauge, "relay_lag_bytes", "Bytes of the database's log that are not published yet, when the relay last looked.";
        commits: Counter, "relay_commits_total", "Transactions read from the log.";
        rows: Counter, "relay_rows_total", "Changed rows read from the log.";
        unmapped_rows: Counter, "relay_unmapped_rows_total", "Those of them that no rule maps: their table is published for nothing.";
        events: Counter, "relay_events_total", "Events of the relay that Redis acknowledged.";
        marks: Counter, "relay_marks_total", "Marks set: each proves a lane once.";
        collapses: Family<RelayCollapse>, "relay_collapses_total", "Times that whole caches were dropped, because what to drop of them could not be decided.";
        restarts: Counter, "relay_restarts_total", "Times that the log was lost, and opened again.";
    }
}

series! {
    /// What one cache of an instance counts.
    CacheMetrics, scope: Some("cache") => {
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
        reaped: Counter, "reaped_total", "Expired entries removed before a read found them.";
        refreshes: Counter, "refreshes_total", "Background loads begun ahead of the TTL.";
        stale_if_error: Counter, "stale_if_error_total", "Expired entries served because their loader failed.";
        stale_if_slow: Counter, "stale_if_slow_total", "Expired entries served because their load took long.";
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

#[cfg_attr(
    not(any(test, feature = "test-util", feature = "relay")),
    allow(dead_code, reason = "nothing relays")
)]
impl RelayMetrics {
    /// Another relay has the lease, or may have it: nothing is this one's to prove.
    pub(crate) fn waits(&self) {
        self.state.set(RelayState::Waiting);
        self.lag.end();
        self.lag_bytes.set(0);
    }

    /// It has the lease and no log.
    pub(crate) fn opens(&self, now: Nanos) {
        self.state.set(RelayState::Opening);
        self.lag.begin(now);
    }

    /// Everything that was committed before this, and that instances wait for, is proven.
    pub(crate) fn proven(&self, at: Nanos) {
        self.lag.begin_anew(at);
    }
}
