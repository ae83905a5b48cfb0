//! Judges reads by the ledger: what was superseded by a commit, and how long ago, when the read began.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::ALLOWANCE;

/// One state of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its version; none while there is no row.
    pub(crate) state: Option<i64>,
    /// When the commit had returned; none where that is not known, or not yet.
    pub(crate) committed: Option<Instant>,
}

impl Entry {
    pub(crate) fn known(state: Option<i64>, at: Instant) -> Self {
        let committed = Some(at);
        Self { state, committed }
    }

    pub(crate) fn unknown(state: Option<i64>) -> Self {
        let committed = None;
        Self { state, committed }
    }
}

/// The states of each row, in the order of their commits.
pub(crate) type Ledger = BTreeMap<i64, Vec<Entry>>;

/// One read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) node: usize,
    pub(crate) key: i64,
    pub(crate) began: Instant,
    pub(crate) hit: bool,
    pub(crate) state: Option<i64>,
    /// Since its load.
    pub(crate) age: Duration,
}

/// What was seen from one moment to another.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) length: Duration,
    pub(crate) reads: usize,
    pub(crate) hits: usize,
    /// Hits that were loaded longer ago than the bound: a mark has proven them.
    pub(crate) proven: usize,
    pub(crate) commits: usize,
    /// Reads that began after a commit and did not see it.
    pub(crate) stale: usize,
    /// The longest time from a commit to a read that did not see it.
    pub(crate) worst: Duration,
    /// From each commit to the last read of each instance that did not see it, in ascending order.
    pub(crate) fresh_after: Vec<Duration>,
    pub(crate) failed: Vec<String>,
    /// Reads of what is beyond the bound, or was never written.
    pub(crate) violations: Vec<String>,
}

impl Phase {
    pub(super) fn new(
        name: &str,
        (from, to): (Instant, Instant),
        ledger: &Ledger,
        seen: &[Seen],
        failed: &[(Instant, String)],
        bound: Duration,
    ) -> Self {
        let within = |at: &Instant| (from..to).contains(at);
        let commits = ledger.values().flatten();
        let commits = commits.filter(|entry| entry.committed.as_ref().is_some_and(within));
        let failed = failed.iter().filter(|(at, _)| within(at));
        let mut phase = Self {
            name: name.to_owned(),
            length: to - from,
            reads: 0,
            hits: 0,
            proven: 0,
            commits: commits.count(),
            stale: 0,
            worst: Duration::ZERO,
            fresh_after: Vec::new(),
            failed: failed.map(|(_, error)| error.clone()).collect(),
            violations: Vec::new(),
        };
        let mut last = BTreeMap::new();
        for read in seen.iter().filter(|read| within(&read.began)) {
            phase.reads += 1;
            phase.hits += usize::from(read.hit);
            phase.proven += usize::from(read.hit && read.age > bound);
            match superseded(&ledger[&read.key], read) {
                Err(what) => phase.violations.push(what),
                Ok(None) => {}
                Ok(Some((entry, ago))) => {
                    phase.stale += 1;
                    phase.worst = phase.worst.max(ago);
                    let one: &mut Duration = last.entry((read.node, read.key, entry)).or_default();
                    *one = ago.max(*one);
                    if ago > bound + ALLOWANCE {
                        let what = format!("{ago:?} after the commit: {read:?}");
                        phase.violations.push(what);
                    }
                }
            }
        }
        phase.fresh_after = last.into_values().collect();
        phase.fresh_after.sort_unstable();
        phase
    }

    /// The 99th percentile over all commits and instances; most of them no read has missed.
    pub(crate) fn p99(&self, instances: usize) -> Duration {
        let all = self.commits * instances;
        let above = all / 100;
        let at = self.fresh_after.len().checked_sub(above + 1);
        at.map_or(Duration::ZERO, |at| self.fresh_after[at])
    }
}

/// The first known commit after the state that a read saw, and how long before the read that was; none where
/// nothing came after it in time.
fn superseded(entries: &[Entry], read: &Seen) -> Result<Option<(usize, Duration)>, String> {
    let Some(at) = entries.iter().rposition(|entry| entry.state == read.state) else {
        return Err(format!("never written: {read:?}"));
    };
    let mut later = entries.iter().enumerate().skip(at + 1);
    let found = later.find_map(|(n, entry)| Some((n, entry.committed?)));
    Ok(found
        .filter(|(_, committed)| *committed < read.began)
        .map(|(n, committed)| (n, read.began - committed)))
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {:.1?}, {} reads ({} failed), {} hits ({} proven by marks), {} commits; stale {} reads, {:.1?} at \
             most, {:.1?} at p99 of the commits",
            self.name,
            self.length,
            self.reads,
            self.failed.len(),
            self.hits,
            self.proven,
            self.commits,
            self.stale,
            self.worst,
            self.p99(3),
        )
    }
}
