//! How the run ended: for people, and as one JSON object for programs.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::chronicle::Chronicle;
use super::fleet::{Fleet, TTL};
use super::judge::Verdict;
use super::meters::Counters;
use super::text::{bytes, count, percent, some, time};
use super::workload::Tally;
use crate::text::wrap;

/// The whole run in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) instances: usize,
    pub(crate) bound: Duration,
    /// Sums over the instances.
    pub(crate) counters: Counters,
    /// Loads, as the source of truth has counted them.
    pub(crate) loads: u64,
    pub(crate) failed: u64,
    pub(crate) writes: u64,
    pub(crate) refused: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) fleet: Verdict,
    pub(crate) alone: Verdict,
}

impl Totals {
    pub(crate) fn of(fleet: &Fleet, tally: &Tally, counters: &[Counters]) -> Self {
        Self {
            instances: fleet.members.len(),
            bound: fleet.bound,
            counters: Counters::sum(counters),
            loads: fleet.source.asked(),
            failed: tally.failed.load(Relaxed),
            writes: tally.writes.load(Relaxed),
            refused: tally.refused.load(Relaxed),
            unconfirmed: tally.unconfirmed.load(Relaxed),
            fleet: tally.fleet.verdict(),
            alone: tally.alone.verdict(),
        }
    }

    pub(crate) fn json(&self, elapsed: Duration) -> Value {
        let counters = &self.counters;
        let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let us = |part| (counters.propagation(part).as_nanos() as f64 / 1e3).round();
        let ratio = counters.hits as f64 / counters.reads().max(1) as f64;
        json!({
            "instances": self.instances,
            "seconds": (elapsed.as_secs_f64() * 1e3).round() / 1e3,
            "max_staleness_ms": ms(self.bound),
            "reads": self.fleet.reads,
            "failed_reads": self.failed,
            "hits": counters.hits,
            "misses": counters.misses,
            "hit_ratio": (ratio * 1e4).round() / 1e4,
            "loads": self.loads,
            "coalesced": counters.coalesced,
            "writes": self.writes,
            "writes_refused": self.refused,
            "writes_unconfirmed": self.unconfirmed,
            "events_published": counters.published,
            "events_applied": counters.applied,
            "gaps": counters.gaps,
            "repairs": counters.repaired,
            "fences": counters.fences,
            "bytes_sent": counters.sent_bytes,
            "bytes_received": counters.received_bytes,
            "propagation_p50_us": us(0.5),
            "propagation_p99_us": us(0.99),
            "stale_reads": self.fleet.stale,
            "worst_staleness_ms": ms(self.fleet.worst),
            "ttl_only_reads": self.alone.reads,
            "ttl_only_stale_reads": self.alone.stale,
            "ttl_only_worst_staleness_ms": ms(self.alone.worst),
        })
    }

    /// What happened and what it proves.
    pub(crate) fn summary(&self, chronicle: &Chronicle) -> Vec<String> {
        let counters = &self.counters;
        let hits = percent(counters.hits, counters.reads());
        let bound = time(self.bound);
        let proven = if self.fleet.stale == 0 {
            format!(
                "  No read returned a value replaced more than {bound} before; worst: {}.",
                time(self.fleet.worst)
            )
        } else {
            format!(
                "  BROKEN: {} were stale by more than {bound}; worst: {}.",
                some(self.fleet.stale, "read"),
                time(self.fleet.worst)
            )
        };
        let mut lines = vec![
            "What happened".to_owned(),
            format!(
                "  {} on {}, {hits} from memory; {}.",
                some(self.fleet.reads, "read"),
                some(self.instances as u64, "instance"),
                some(self.loads, "load"),
            ),
            format!(
                "  {}; {} refused: an instance that is cut off does not commit.",
                some(self.writes, "write"),
                count(self.refused)
            ),
            format!(
                "  {}, half of them delivered in {}; {} of traffic.",
                some(counters.published, "invalidation"),
                time(counters.propagation(0.5)),
                bytes(counters.sent_bytes + counters.received_bytes)
            ),
        ];
        let faults = format!("Faults: {}.", chronicle.faults());
        lines.extend(wrap("  ", "    ", &faults));
        lines.extend([
            format!(
                "  Missed events were noticed {}, and read from the journal {}.",
                some(counters.gaps, "time"),
                some(counters.repaired, "time"),
            ),
            format!(
                "  {} the journal had lost them, and an instance dropped its entries.",
                some(counters.fences, "time")
            ),
            "What it proves".to_owned(),
            proven,
            format!(
                "  The same reads with only a TTL of {}: {}; worst: {}.",
                time(TTL),
                some(self.alone.stale, "stale read"),
                time(self.alone.worst)
            ),
        ]);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::WIDTH;

    #[test]
    fn every_line_of_the_summary_fits_after_an_hour() {
        const MANY: u64 = 12_345_678;
        const FAULTS: u64 = 1_234;
        let verdict = Verdict {
            reads: MANY,
            stale: MANY / 10,
            worst: Duration::from_millis(12_340),
        };
        let mut counters = Counters::default();
        for (counter, most) in [
            (&mut counters.hits, MANY),
            (&mut counters.published, MANY / 100),
            (&mut counters.gaps, FAULTS),
            (&mut counters.repaired, FAULTS),
            (&mut counters.fences, FAULTS),
            (&mut counters.sent_bytes, MANY),
        ] {
            *counter = most;
        }
        let mut chronicle = Chronicle::default();
        (chronicle.lost, chronicle.cuts) = (FAULTS, FAULTS);
        (chronicle.silences, chronicle.floods) = (FAULTS, FAULTS);
        let mut totals = Totals {
            instances: 9,
            bound: Duration::from_millis(1_930),
            counters,
            loads: MANY,
            failed: 0,
            writes: MANY / 100,
            refused: 12_345,
            unconfirmed: 0,
            fleet: verdict,
            alone: verdict,
        };
        for stale in [MANY / 1000, 0] {
            totals.fleet.stale = stale;
            for line in totals.summary(&chronicle) {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }
}
