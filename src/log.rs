//! Limits how often a lasting fault is logged.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shortest time between two lines of one limit, in nanoseconds: 10 s.
/// Six lines a minute show that a fault lasts and drown nothing else.
const INTERVAL: u64 = 10_000_000_000;

/// Lets a line through every 10 s and counts the others. One per call site; all lines about a Redis
/// that is away or slow share one, because they have one cause: the first line names it.
///
/// ```text
/// if let Some(suppressed) = self.lost.allow(clock.now()) {
///     tracing::warn!(suppressed, "lost the connection to Redis");
/// }
/// ```
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// Before this time no line passes.
    next: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    /// Returns whether to write a line at `now` (nanoseconds of a monotonic clock), and, if any, how many were
    /// suppressed since the last one: a field that is `None` is not written.
    pub(crate) fn allow(&self, now: u64) -> Option<Option<u64>> {
        let next = self.next.load(Relaxed);
        let later = now.saturating_add(INTERVAL);
        // If several threads come at once, one wins.
        if now >= next
            && self
                .next
                .compare_exchange(next, later, Relaxed, Relaxed)
                .is_ok()
        {
            let suppressed = self.suppressed.swap(0, Relaxed);
            return Some((suppressed > 0).then_some(suppressed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_passes_every_interval_and_says_what_it_left_out() {
        let limit = LogLimit::default();
        let start = 5;
        assert_eq!(limit.allow(start), Some(None));
        for now in start + 1..start + 8 {
            assert_eq!(limit.allow(now), None);
        }
        assert_eq!(limit.allow(start + INTERVAL - 1), None);
        assert_eq!(limit.allow(start + INTERVAL), Some(Some(8)));
        assert_eq!(limit.allow(start + INTERVAL + 1), None);
        assert_eq!(limit.allow(start + 5 * INTERVAL), Some(Some(1)));
    }

    #[test]
    fn of_many_threads_at_one_moment_one_passes() {
        const THREADS: u64 = 8;
        let limit = LogLimit::default();
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    if limit.allow(1).is_some() {
                        passed.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.load(Relaxed), 1);
        // A thread that lost may have counted itself before the winner took the count.
        assert!(
            limit
                .allow(1 + INTERVAL)
                .is_some_and(|suppressed| suppressed.is_none_or(|left_out| left_out < THREADS))
        );
    }
}
