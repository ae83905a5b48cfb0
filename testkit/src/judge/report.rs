//! From single reads to the figures of a phase.

use std::fmt;
use std::time::{Duration, Instant};

/// A read after an acknowledged write of its account within this time could have been stale.
/// It is the promise's bound with its allowance: no read may be served anything older.
pub(super) const EXPOSURE: Duration = Duration::from_millis(2_250);

/// What "again" is measured over when hits come back.
pub(super) const RECENT: Duration = Duration::from_secs(1);

/// Failed reads that a report describes; one tells the story, a thousand hide it.
const FAILURES_SHOWN: usize = 5;

/// One `GET`, as its client saw it.
#[derive(Clone, Debug)]
pub struct Read {
    pub start: Instant,
    pub latency: Duration,
    /// The latency of `GET /livez` on the same instance at the same moment.
    pub control: Duration,
    pub instance: usize,
    pub account: usize,
    /// The version in an answer 200; else what came instead.
    pub version: Result<u64, String>,
    pub served: Served,
}

/// The header `x-cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// `hit` or `negative`.
    Hit,
    Miss,
    Coalesced,
    /// None of these, or no answer.
    Unknown,
}

/// A `PUT` that was answered 200.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub version: u64,
    pub at: Instant,
}

/// Writes by their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// 200.
    pub acknowledged: u64,
    /// 202: committed, peers follow later.
    pub unconfirmed: u64,
    /// 503: nothing was committed.
    pub refused: u64,
    /// Everything else: the outcome is not known.
    pub unknown: u64,
}

impl Writes {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            acknowledged: self.acknowledged - before.acknowledged,
            unconfirmed: self.unconfirmed - before.unconfirmed,
            refused: self.refused - before.refused,
            unknown: self.unknown - before.unknown,
        }
    }
}

/// A few percentiles of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Spread {
    pub(super) fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        let Some(&max) = values.last() else {
            return Self::default();
        };
        // Nearest rank, rounded up: the 99th of 100, the last of 50.
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Self {
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            max,
        }
    }
}

/// One instance's part of a phase.
#[derive(Clone, Debug, Default)]
pub struct Share {
    pub reads: usize,
    /// Reads that were not answered 200.
    pub failed: usize,
    pub hits: usize,
    pub misses: usize,
    pub coalesced: usize,
    /// Part of the reads of the phase's last second that were hits.
    pub recent_hits: f64,
    pub latency: Spread,
    /// Durations of `GET /livez`: what the machine adds.
    pub control: Spread,
    /// Over the reads that could have been stale; zero for those that were not.
    pub staleness: Spread,
}

/// What happened in one window of time.
#[derive(Clone, Debug)]
pub struct Phase {
    pub name: String,
    pub length: Duration,
    pub instances: Vec<Share>,
    pub writes: Writes,
    /// Reads that could have been stale, and by how much those were that were.
    pub exposed: usize,
    pub stale: Vec<Duration>,
    pub staleness: Spread,
    /// For each read that did not show a version which another client had seen, acknowledged or not: for how
    /// long it had been seen.
    pub behind: Vec<Duration>,
    /// The stalest read and the first failed ones, in words.
    pub notes: Vec<String>,
}

impl Phase {
    /// The figures of the reads that ended between `start` and `end`.
    pub(super) fn new(
        name: &str,
        (start, end): (Instant, Instant),
        instances: usize,
        reads: &[Read],
        acks: &[Vec<Ack>],
        writes: Writes,
    ) -> Self {
        let mut exposed: Vec<(Duration, &Read)> = Vec::new();
        for read in reads {
            let acks = &acks[read.account];
            let staleness = staleness(acks, read).unwrap_or_default();
            if staleness > Duration::ZERO || is_exposed(acks, read) {
                exposed.push((staleness, read));
            }
        }
        let worst = exposed.iter().max_by_key(|(staleness, _)| *staleness);
        let worst = worst.filter(|(staleness, _)| !staleness.is_zero());
        let mut notes: Vec<String> = worst
            .map(|(staleness, read)| format!("stale by {staleness:.1?}: {}", describe(read, start)))
            .into_iter()
            .collect();
        let failed = reads.iter().filter(|read| read.version.is_err());
        notes.extend(
            failed
                .take(FAILURES_SHOWN)
                .map(|read| describe(read, start)),
        );
        Self {
            name: name.to_owned(),
            length: end - start,
            instances: (0..instances)
                .map(|at| Share::new(at, end, reads, &exposed))
                .collect(),
            writes,
            exposed: exposed.len(),
            stale: exposed
                .iter()
                .map(|(staleness, _)| *staleness)
                .filter(|staleness| !staleness.is_zero())
                .collect(),
            staleness: Spread::of(exposed.iter().map(|(staleness, _)| *staleness).collect()),
            behind: Vec::new(),
            notes,
        }
    }

    pub fn reads(&self) -> usize {
        self.instances.iter().map(|share| share.reads).sum()
    }

    pub fn failed(&self) -> usize {
        self.instances.iter().map(|share| share.failed).sum()
    }

    /// Part of all reads that were hits.
    pub fn hit_share(&self) -> f64 {
        share(
            self.instances.iter().map(|share| share.hits).sum(),
            self.reads(),
        )
    }
}

impl Share {
    fn new(instance: usize, end: Instant, reads: &[Read], exposed: &[(Duration, &Read)]) -> Self {
        let mine: Vec<&Read> = reads
            .iter()
            .filter(|read| read.instance == instance)
            .collect();
        let served = |how| mine.iter().filter(|read| read.served == how).count();
        let stale = exposed.iter().filter(|(_, read)| read.instance == instance);
        Self {
            reads: mine.len(),
            failed: mine.iter().filter(|read| read.version.is_err()).count(),
            hits: served(Served::Hit),
            misses: served(Served::Miss),
            coalesced: served(Served::Coalesced),
            recent_hits: recent_hits(instance, end, reads),
            latency: Spread::of(mine.iter().map(|read| read.latency).collect()),
            control: Spread::of(mine.iter().map(|read| read.control).collect()),
            staleness: Spread::of(stale.map(|(staleness, _)| *staleness).collect()),
        }
    }
}

/// Part of the reads that one instance answered in the second before `end` that were hits.
pub(super) fn recent_hits(instance: usize, end: Instant, reads: &[Read]) -> f64 {
    let recent =
        |read: &&Read| read.instance == instance && read.start + read.latency + RECENT >= end;
    let (mut hits, mut all) = (0, 0);
    for read in reads.iter().filter(recent) {
        all += 1;
        hits += usize::from(read.served == Served::Hit);
    }
    share(hits, all)
}

/// How long before the read began a write had been acknowledged that it does not show.
///
/// `acks` are one account's, in the order of their times, which is that of their versions.
pub(super) fn staleness(acks: &[Ack], read: &Read) -> Option<Duration> {
    let version = *read.version.as_ref().ok()?;
    let replaced = acks.partition_point(|ack| ack.version <= version);
    let replaced = acks.get(replaced)?;
    // Acknowledged while the read was under way: either answer is right.
    read.start
        .checked_duration_since(replaced.at)
        .filter(|age| !age.is_zero())
}

fn is_exposed(acks: &[Ack], read: &Read) -> bool {
    let before = acks.partition_point(|ack| ack.at <= read.start);
    let last = before.checked_sub(1).map(|last| acks[last]);
    read.version.is_ok() && last.is_some_and(|last| read.start - last.at <= EXPOSURE)
}

fn describe(read: &Read, start: Instant) -> String {
    // One that began in the phase before is at a negative time.
    let at = read.start.saturating_duration_since(start).as_secs_f64()
        - start.saturating_duration_since(read.start).as_secs_f64();
    let Read {
        latency,
        instance,
        account,
        version,
        served,
        ..
    } = read;
    format!(
        "at {at:.3} s, {latency:.1?}, instance {instance}, account {account}: {version:?} {served:?}"
    )
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            length,
            exposed,
            stale,
            staleness,
            writes,
            ..
        } = self;
        let (reads, hits) = (self.reads(), 100.0 * self.hit_share());
        let stale = stale.len();
        writeln!(
            f,
            "{name}: {length:.1?}, {reads} reads, {hits:.0} % hits, {writes:?}"
        )?;
        writeln!(
            f,
            "  {stale} of {exposed} exposed reads stale, {staleness:.1?}"
        )?;
        for (at, share) in self.instances.iter().enumerate() {
            let Share {
                reads,
                failed,
                hits,
                misses,
                coalesced,
                latency,
                control,
                staleness,
                ..
            } = share;
            let recent = 100.0 * share.recent_hits;
            writeln!(
                f,
                "  instance {at}: {reads} reads, {failed} failed, {hits} hits, {misses} misses, \
                 {coalesced} coalesced, {recent:.0} % hits at the end\n    latency {latency:.1?}\n    \
                 control {control:.1?}\n    \
                 staleness {staleness:.1?}"
            )?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "  {note}"))
    }
}
