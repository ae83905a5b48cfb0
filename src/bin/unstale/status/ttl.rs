//! What hit ratio another TTL would have given, from the ages of hits and the overage of expired
//! entries.
//!
//! Take the reads of one key while it is not invalidated. A TTL cuts them into lives, each beginning
//! with a load.
//!
//! - **Shorter, t.** Within one present life the first new load may come at any hit, every further
//!   one only at a hit older than t. So there are at most as many loads more as there were hits older
//!   than t: the others are hits *at least*.
//! - **Longer by d.** Where a read found the entry expired for longer than d, the lives before and
//!   after it cannot grow together: the longer TTL loads there once, too. So it saves at most as many
//!   loads as there were reads that found the entry expired for no longer than d.
//!
//! Reads that shared a load are taken to be spread evenly over the loads. The histograms are samples,
//! so their parts are applied to the exact counters, one instance at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scrape::Sample;

/// Rows above and below the present TTL. Bounds of buckets double or quadruple, so these reach far.
const ROWS: usize = 6;

/// A longer TTL is worth a row from this part of the present one on.
const WORTH: f64 = 0.05;

/// What the instances have counted for one cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    instances: usize,
    /// Of the instance with the longest, in seconds.
    ttl: f64,
    hits: f64,
    negative: f64,
    misses: f64,
    coalesced: f64,
    expired: f64,
    /// Hits no older than a bound, in nanoseconds so that bounds can be compared exactly.
    young: BTreeMap<u64, f64>,
    /// Reads that found an entry expired for no longer than a bound.
    late: BTreeMap<u64, f64>,
}

/// The hit ratio under one TTL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    /// `None`: no TTL at all.
    pub(super) ttl: Option<Duration>,
    pub(super) ratio: f64,
    pub(super) is: Is,
}

/// What a ratio is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// A lower bound.
    AtLeast,
    /// What was measured.
    Now,
    /// An upper bound.
    AtMost,
}

/// All caches, from what each instance said.
pub(super) fn caches(instances: &[Vec<Sample>]) -> BTreeMap<String, Cache> {
    let mut caches: BTreeMap<String, Cache> = BTreeMap::new();
    for samples in instances {
        let named = samples.iter().map(|sample| sample.label("cache"));
        let names: std::collections::BTreeSet<_> = named.filter(|name| !name.is_empty()).collect();
        for name in names {
            let own: Vec<_> = samples
                .iter()
                .filter(|s| s.label("cache") == name)
                .collect();
            caches.entry(name.to_owned()).or_default().add(&own);
        }
    }
    caches
}

impl Cache {
    /// Adds what one instance said of the cache.
    fn add(&mut self, samples: &[&Sample]) {
        let sum = |name: &str, cause: &str| -> f64 {
            let chosen = samples.iter().filter(|sample| sample.name == name);
            let chosen = chosen.filter(|sample| cause.is_empty() || sample.label("cause") == cause);
            chosen.map(|sample| sample.value).sum()
        };
        self.instances += 1;
        self.ttl = self.ttl.max(sum("unstale_ttl_seconds", ""));
        let hits = sum("unstale_hits_total", "");
        let expired = sum("unstale_misses_total", "expired");
        self.hits += hits;
        self.expired += expired;
        self.negative += sum("unstale_negative_hits_total", "");
        self.misses += sum("unstale_misses_total", "");
        self.coalesced += sum("unstale_coalesced_total", "");
        spread(samples, "unstale_hit_age_seconds", hits, &mut self.young);
        spread(
            samples,
            "unstale_expiry_overage_seconds",
            expired,
            &mut self.late,
        );
    }

    pub(super) fn instances(&self) -> usize {
        self.instances
    }

    pub(super) fn reads(&self) -> f64 {
        self.hits + self.negative + self.misses + self.coalesced
    }

    /// From the shortest TTL to none; empty without reads.
    pub(super) fn rows(&self) -> Vec<Row> {
        let reads = self.reads();
        if reads <= 0.0 {
            return Vec::new();
        }
        let row = |ttl, hits: f64, is| Row {
            ttl,
            ratio: hits / reads,
            is,
        };
        let present = Duration::from_secs_f64(self.ttl);
        let length = |bound: &u64| Duration::from_nanos(*bound);
        let shorter = self
            .young
            .iter()
            .filter(|(bound, _)| length(bound) < present);
        let shorter = shorter
            .map(|(bound, young)| row(Some(length(bound)), young + self.negative, Is::AtLeast));
        let mut rows: Vec<_> = shorter.collect();
        rows.drain(..rows.len().saturating_sub(ROWS));
        let now = self.hits + self.negative;
        rows.push(row(Some(present), now, Is::Now));
        // A load that is saved takes those along that shared it.
        let shared = 1.0 + self.coalesced / self.misses.max(1.0);
        let worth = present.mul_f64(WORTH);
        let longer = self.late.iter().filter(|(bound, _)| length(bound) >= worth);
        for (bound, late) in longer.take(ROWS) {
            let ttl = present.saturating_add(length(bound));
            rows.push(row(Some(ttl), now + late * shared, Is::AtMost));
            // From here on there is no more to be gained.
            if *late >= self.expired {
                break;
            }
        }
        rows.push(row(None, now + self.expired * shared, Is::AtMost));
        rows
    }

    pub(super) fn json(&self, name: &str) -> Value {
        let rows = self.rows();
        let now = rows.iter().find(|row| row.is == Is::Now);
        let others = rows.iter().filter(|row| row.is != Is::Now).map(|row| {
            let ratio = match row.is {
                Is::AtMost => "hit_ratio_at_most",
                _ => "hit_ratio_at_least",
            };
            json!({ "ttl_seconds": row.ttl.map(|ttl| ttl.as_secs_f64()), ratio: row.ratio })
        });
        json!({
            "cache": name,
            "instances": self.instances,
            "ttl_seconds": self.ttl,
            "reads": self.reads(),
            "hit_ratio": now.map(|row| row.ratio),
            "other_ttls": others.collect::<Vec<_>>(),
        })
    }

    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let instances = crate::common::count(self.instances(), "instance");
        let mut lines = vec![format!(
            "cache {name}: {:.0} reads by {instances}",
            self.reads()
        )];
        for row in self.rows() {
            let ttl = row.ttl.map_or("none".to_owned(), length);
            let is = match row.is {
                Is::AtLeast => "at least",
                Is::Now => "now",
                Is::AtMost => "at most",
            };
            lines.push(format!(
                "  TTL {ttl:<10}  {is:>8}  {:5.1} % hits",
                row.ratio * 100.0
            ));
        }
        lines
    }
}

/// `0.5 s`, `32.8 s`, `1m 10s`.
fn length(ttl: Duration) -> String {
    if ttl < Duration::from_secs(60) {
        return format!("{:.1} s", ttl.as_secs_f64());
    }
    let seconds = ttl.as_secs_f64().round() as u64;
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// Adds an exact count to the buckets of its histogram, in the proportions of the sample.
fn spread(samples: &[&Sample], name: &str, count: f64, into: &mut BTreeMap<u64, f64>) {
    let bucket = |sample: &&&Sample| sample.name.strip_suffix("_bucket") == Some(name);
    let buckets: Vec<_> = samples.iter().filter(bucket).collect();
    let all = buckets.iter().find(|sample| sample.label("le") == "+Inf");
    let all = all.map_or(0.0, |sample| sample.value);
    for sample in buckets {
        let Ok(bound) = sample.label("le").parse::<f64>() else {
            continue;
        };
        if bound.is_finite() {
            let part = if all > 0.0 { sample.value / all } else { 0.0 };
            let nanos = Duration::from_secs_f64(bound.max(0.0)).as_nanos();
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            *into.entry(nanos).or_default() += count * part;
        }
    }
}

#[cfg(test)]
mod tests;
