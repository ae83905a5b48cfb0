//! Loads that have failed within `error_ttl`: a source that has just failed is not asked by every reader.
//!
//! An invalidation ends them. So does their time, and a bound; then the next read asks.

use std::collections::VecDeque;

use crate::Error;
use crate::store::stamps::Stamp;
use crate::time::Nanos;

/// The maximum number of errors that each of the sixteen tables of flights keeps: 65,536 for a cache, some
/// 200 bytes each. Beyond that the oldest are forgotten, and their keys are loaded again.
const MOST: usize = 4_096;

/// Longest key, in canonical bytes, whose error is kept: 64 MiB of keys at most.
pub(crate) const LONGEST: usize = 1_024;

/// A load that has failed.
pub(crate) struct Failure<K> {
    pub(crate) key: K,
    /// What the load saw of the invalidation clock, or the clock where it did not begin.
    pub(crate) token: Stamp,
    pub(crate) error: Error,
    pub(crate) failed_at: Nanos,
    pub(crate) until: Nanos,
}

impl<K> Failure<K> {
    /// Whether its error answers a read that must see all up to `newest`.
    pub(super) fn counts(&self, newest: Stamp, now: Option<Nanos>) -> bool {
        self.token >= newest && now.is_some_and(|now| now < self.until)
    }

    /// Returns whether a load that begins now follows this failure at once: within once more the time for
    /// which its error counts.
    pub(super) fn is_recent(&self, newest: Stamp, now: Option<Nanos>) -> bool {
        let again = self.until.saturating_add(self.until - self.failed_at);
        self.token >= newest && now.is_some_and(|now| now < again)
    }
}

/// When the errors in one table are over, the oldest first.
#[derive(Default)]
pub(super) struct Failed(VecDeque<(Nanos, u64)>);

impl Failed {
    /// Notes an error; which others are to be forgotten.
    pub(super) fn enter<K>(&mut self, hash: u64, failure: &Failure<K>) -> Vec<(Nanos, u64)> {
        self.0.push_back((failure.until, hash));
        let mut over = Vec::new();
        while let Some(&(until, _)) = self.0.front()
            && (until <= failure.failed_at || self.0.len() > MOST)
        {
            over.extend(self.0.pop_front());
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn failure(at: Nanos) -> Failure<u64> {
        Failure {
            key: 1,
            token: 5,
            error: Error::new(ErrorKind::Load, "it failed"),
            failed_at: at,
            until: at + 10,
        }
    }

    #[test]
    fn an_error_counts_for_its_time_and_until_an_invalidation() {
        let failure = failure(100);
        assert!(failure.counts(5, Some(109)));
        assert!(!failure.counts(5, Some(110)) && !failure.counts(6, Some(100)));
        assert!(!failure.counts(5, None), "to a read with its own load");
        assert!(failure.is_recent(5, Some(119)));
        assert!(!failure.is_recent(5, Some(120)) && !failure.is_recent(6, Some(110)));
        assert!(!failure.is_recent(5, None));
    }

    #[test]
    fn errors_are_forgotten_when_they_are_over_or_too_many() {
        let mut failed = Failed::default();
        assert_eq!(failed.enter(1, &failure(0)), []);
        assert_eq!(failed.enter(2, &failure(9)), []);
        assert_eq!(failed.enter(3, &failure(10)), [(10, 1)]);
        let mut over = 0;
        for hash in 0..2 * MOST as u64 {
            over += failed.enter(hash, &failure(11)).len();
        }
        assert_eq!(over, MOST + 2);
        assert_eq!(failed.0.len(), MOST);
    }
}
