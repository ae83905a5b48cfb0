//! The table: every series' name, type, labels and help, next to the field that feeds it.

use std::sync::{Arc, LazyLock};

use super::cells::{Counter, Family, Gauge, Latest, Metric, PerLane};
use super::fold::Fold;
use super::histogram::{Histogram, Overage};
use super::hits::{HIT_AGE, Hits};
use super::info::{BuildInfo, InstanceInfo};
use super::labels::{
    Audited, Collapse, Dropped, Fence, Gap, Kind, LaneWait, LoadOutcome, MissCause as Miss,
    RelayCollapse, RelayState, Repair, Scope, SharedRead, SharedStore, SharedWait, Side, StaleFor,
    SubscriptionMethod, Verification, WriteOutcome,
};
use super::series::Series;
use super::sources::{Age, OneOf, PerSource};
use crate::time::Nanos;

/// Returns every metric of this crate, for documentation, dashboards and tests that check them.
///
/// # Examples
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
/// Without buckets, the exporter renders histograms as summaries, which cannot be summed over
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
        published: Counter, "events_published_total", "Events of this instance that Redis has acknowledged.";
        received: Counter, "events_received_total", "Events that the subscription delivered to this instance.";
        applied: Counter, "events_applied_total", "Received events that were applied to the caches.";
        dropped: Family<Dropped>, "events_dropped_total", "Received events, or operations in them, that were not applied, by reason.";
        sent_bytes: Arc<Family<Kind>>, "bus_sent_bytes_total", "Bytes sent to Redis, by kind of traffic; with the bytes of its protocol, without those of TLS and TCP.";
        received_bytes: Arc<Family<Kind>>, "bus_received_bytes_total", "Bytes received from Redis, by kind of traffic; with the bytes of its protocol, without those of TLS and TCP.";
        propagation: Histogram, "propagation_seconds", "Time from sending an event to its delivery back to the instance that sent it.";
        publish: Histogram, "publish_seconds", "Time from queueing an invalidation to its acknowledgement by Redis.";
        gaps: Family<Gap>, "gaps_total", "How often events of a lane may have been missed, by how it was noticed.";
        repairs: Family<Repair>, "repairs_total", "Attempts to read missed events from the journal, by outcome.";
        fences: Family<Fence>, "fences_total", "How often all entries of a lane were dropped (fenced), by cause.";
        verifications: Family<Verification>, "verifications_total", "Verifications of a lane, which ask Redis whether an event was missed, by outcome.";
        verified_age: PerLane, "verified_age_seconds", "Time since this instance is known to have applied all events of the lane.";
        source_verified_age: PerSource, "source_verified_age_seconds", "Time since this instance is known to have applied everything committed in the source, in the lane where that is longest ago.";
        delivery_pause: PerLane, "delivery_pause_seconds", "Pause after each message to the many subscribers of the lane. Events that are published in the pause are delivered together.";
        lane_waits: Family<LaneWait>, "lane_waits_total", "Reads that waited for the verification of their lane, by outcome.";
        connected: Gauge, "connected", "Instances of this process that are connected to their bus, which is Redis or inside the process.";
        subscription_repairs: Family<SubscriptionMethod>, "subscription_repairs_total", "Subscriptions that were repaired because they delivered nothing, by method.";
        outbox_keys: Gauge, "outbox_keys", "Keys, tags, caches and lanes that wait to be published.";
        collapses: Family<Collapse>, "outbox_collapses_total", "How often the full outbox replaced keys by whole caches, or everything by a whole lane.";
        publish_failures: Counter, "publish_failures_total", "Attempts to publish an event that failed. They are retried.";
        republished: Counter, "republished_total", "Events that were published again because no later verification confirmed them.";
        open_writes: Gauge, "open_writes", "Crash-safe writes that are announced in Redis and not cleared yet.";
        writes: Family<WriteOutcome>, "writes_total", "Crash-safe writes, by outcome.";
        recovered_writes: Counter, "recovered_writes_total", "Writes of dead instances whose invalidation this instance has finished.";
        shared_trips: Counter, "shared_trips_total", "How often the circuit breaker of the shared tier opened.";
        shared_broken: Gauge, "shared_broken", "Instances of this process whose circuit breaker of the shared tier is open.";
        clock_jumps: Counter, "clock_jumps_total", "How often the clocks of the machine diverged. All entries then count as older by the difference; if it exceeds the staleness bound, every lane is dropped.";
        build: BuildInfo, "build_info", "Always 1. The label is the version of this crate.";
        settings: InstanceInfo, "settings_info", "Always 1. The labels are the settings of the instance.";
    }
}

series! {
    /// What the relay of one source counts.
    RelayMetrics, scope: Some("source") => {
        state: OneOf<RelayState>, "relay_state", "1 for the present state of the relay, 0 for the others. It leads, waits for another relay, or opens the log of the database.";
        lag: Age, "relay_lag_seconds", "Time since the relay last proved all that instances wait for; 0 while another relay leads.";
        lag_bytes: Gauge, "relay_lag_bytes", "Bytes of the database's log that were not published yet when the relay last looked.";
        commits: Counter, "relay_commits_total", "Transactions read from the database's log.";
        rows: Counter, "relay_rows_total", "Changed rows read from the database's log.";
        unmapped_rows: Counter, "relay_unmapped_rows_total", "Changed rows that no rule maps to a cache. The publication in the database need not include their table.";
        events: Counter, "relay_events_total", "Events of the relay that Redis has acknowledged.";
        marks: Counter, "relay_marks_total", "Marks that the relay has set. Each proves once that a lane has all commits so far.";
        collapses: Family<RelayCollapse>, "relay_collapses_total", "How often whole caches were dropped because the relay could not tell which keys had changed, by cause.";
        restarts: Counter, "relay_restarts_total", "How often the database's log was lost and opened again.";
    }
}

series! {
    /// What one cache of an instance counts.
    CacheMetrics, scope: Some("cache") => {
        hits: Hits, "hits_total", "Reads that were answered with a value from memory.";
        negative_hits: Counter, "negative_hits_total", "Reads that were answered from memory with 'does not exist'.";
        misses: Family<Miss>, "misses_total", "Reads that found no entry to serve and started a load, by cause.";
        coalesced: Counter, "coalesced_total", "Reads that waited for a load which another read had started.";
        loads: Family<LoadOutcome>, "loads_total", "Loads, by outcome.";
        load_duration: Histogram, "load_duration_seconds", "Duration of a load.";
        loads_in_flight: Gauge, "loads_in_flight", "Loads that are running now.";
        loads_discarded: Counter, "loads_discarded_total", "Loaded values that were not stored because an invalidation came during the load.";
        invalidations: Family<(Scope, Side)>, "invalidations_total", "Invalidations applied to the cache, by what they named and where they came from.";
        entries: Gauge, "entries", "Entries in memory.";
        weight: Gauge, "weight_bytes", "Size of all entries in memory, as the cache's weigher counts it.";
        evictions: Counter, "evictions_total", "Entries that were evicted to make room for others.";
        oversized: Counter, "oversized_total", "Values that were served and not stored because they are too large.";
        reaped: Counter, "reaped_total", "Expired entries that were removed before a read found them.";
        refreshes: Counter, "refreshes_total", "Reloads that were started in the background before the entry expired.";
        stale_if_error: Counter, "stale_if_error_total", "Expired entries that were served because their load failed.";
        stale_if_slow: Counter, "stale_if_slow_total", "Expired entries that were served because their load took long.";
        audits: Family<Audited>, "audits_total", "Hits that the audit has compared with the source, by outcome.";
        audit_stale: Family<StaleFor>, "audit_stale_total", "Audited values that were still served, and still differed from the source, so long after the staleness bound (label age).";
        expiry_overage: Histogram<Overage>, "expiry_overage_seconds", "How long an entry had been expired when a read found it.";
        shared_reads: Family<SharedRead>, "shared_reads_total", "Reads of the shared tier, by outcome.";
        shared_stores: Family<SharedStore>, "shared_stores_total", "Values offered to the shared tier, by outcome.";
        shared_waits: Family<SharedWait>, "shared_waits_total", "Waits for a load of another instance, by outcome.";
        ttl: Latest, "ttl_seconds", "TTL of the cache.";
        max_staleness: Latest, "max_staleness_seconds", "Staleness bound of the cache, max_staleness; 0 if it is off.";
        negative_ttl: Latest, "negative_ttl_seconds", "How long the cache remembers 'does not exist'.";
        capacity: Gauge, "capacity_entries", "Maximum number of entries in memory.";
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
        self.lag.restart(at);
    }
}
