//! How old, after their replacement, the values are that reads return.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::source::{Source, Version};

/// The caches' clock moves in steps of at most this: a hit may be so much over its bound.
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// Judges every read of one kind of cache against the source of truth.
#[derive(Debug)]
pub(crate) struct Judge {
    bound: Duration,
    reads: AtomicU64,
    stale: AtomicU64,
    worst: AtomicU64,
    lately: AtomicU64,
}

/// What a judge has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) reads: u64,
    /// Reads of a value that had been replaced for longer than the bound when they began.
    pub(crate) stale: u64,
    /// The longest that any value had been replaced when a read of it began.
    pub(crate) worst: Duration,
}

impl Judge {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            bound,
            reads: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            worst: AtomicU64::new(0),
            lately: AtomicU64::new(0),
        }
    }

    /// A read that began then has returned this.
    pub(crate) fn judge(&self, source: &Source, key: u64, version: Version, began: Instant) {
        self.reads.fetch_add(1, Relaxed);
        let replaced = source.replaced(key, version);
        if let Some(age) = replaced.and_then(|at| began.checked_duration_since(at)) {
            self.stale_for(age);
        }
    }

    fn stale_for(&self, age: Duration) {
        let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.worst.fetch_max(nanos, Relaxed);
        self.lately.fetch_max(nanos, Relaxed);
        if age > self.bound + CLOCK_STEP {
            self.stale.fetch_add(1, Relaxed);
        }
    }

    /// Everything so far.
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict {
            reads: self.reads.load(Relaxed),
            stale: self.stale.load(Relaxed),
            worst: Duration::from_nanos(self.worst.load(Relaxed)),
        }
    }

    /// The worst since this was asked last.
    pub(crate) fn lately(&self) -> Duration {
        Duration::from_nanos(self.lately.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(2);

    #[test]
    fn only_what_was_replaced_before_a_read_began_and_for_longer_than_the_bound_is_stale() {
        let (source, judge) = (Source::new(1), Judge::new(BOUND));
        let before = Instant::now();
        let new = source.replace(0);
        source.acknowledge(0, new);
        let at = source.replaced(0, 0).unwrap();

        judge.judge(&source, 0, 0, before);
        judge.judge(&source, 0, new, at + 10 * BOUND);
        assert_eq!(judge.verdict().worst, Duration::ZERO);
        judge.judge(&source, 0, 0, at + BOUND);
        assert_eq!((judge.verdict().stale, judge.lately()), (0, BOUND));
        judge.judge(&source, 0, 0, at + BOUND + 2 * CLOCK_STEP);
        judge.judge(&source, 0, new, at + BOUND);
        let verdict = judge.verdict();
        assert_eq!((verdict.reads, verdict.stale), (5, 1));
        assert_eq!(verdict.worst, BOUND + 2 * CLOCK_STEP);
        assert_eq!(judge.lately(), verdict.worst);
        assert_eq!(judge.lately(), Duration::ZERO, "asked since");
    }
}
