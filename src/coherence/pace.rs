//! When a lane is verified, and what a verification that fails costs. No I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff;
use crate::mutants::{Mechanism, without};

/// Time between two verifications of a lane on average, however many are asked for: 200 a second at most.
const GAP: Duration = Duration::from_millis(5);

/// Verifications that may follow one another at once before [`GAP`] counts: a start, a first cache
/// with a shared tier and a first read come together.
const BURST: u32 = 4;

/// The pause after a verification that failed; each further failure doubles it, up to
/// `verify_interval`. Otherwise a Redis that refuses at once would be asked once a round trip, by every
/// read that finds its entry unverified.
const PAUSE: Duration = Duration::from_millis(50);

/// When one lane is verified next.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Instant,
    /// Nothing makes it due sooner.
    not_before: Instant,
    /// When as many as were sent would have been sent one [`GAP`] apart.
    paid_until: Instant,
    failures: u32,
    /// A verification is under way.
    asking: bool,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            due: now,
            not_before: now,
            paid_until: now,
            failures: 0,
            asking: false,
        }
    }

    /// Returns when the next one is to be sent; none while one is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.asking).then_some(self.due)
    }

    pub(crate) fn is_due(&self, by: Instant) -> bool {
        self.due().is_some_and(|due| due <= by)
    }

    /// Returns whether the next one may be sent, even if it is not due.
    pub(crate) fn may_be_sent(&self, now: Instant) -> bool {
        self.not_before <= now
    }

    /// The next one is to be sent as soon as possible.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.not_before));
    }

    /// A connection was made, which has a pace of its own.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = now;
        self.hurry(now);
    }

    pub(crate) fn sent(&mut self, now: Instant, interval: Duration) {
        self.asking = true;
        self.due = now + interval;
        self.paid_until = self.paid_until.max(now) + GAP;
        self.not_before = now.max(self.paid_until - GAP * (BURST - 1));
    }

    pub(crate) fn succeeded(&mut self) {
        self.asking = false;
        self.failures = 0;
    }

    /// `jitter` is from 0.5 to 1.5: a fleet does not ask in step.
    pub(crate) fn failed(&mut self, now: Instant, longest: Duration, jitter: f64) {
        self.asking = false;
        if without(Mechanism::VerificationPace) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + backoff::delay(PAUSE, longest, self.failures).mul_f64(jitter);
        self.due = self.due.max(self.not_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn no_request_makes_a_lane_due_within_the_pause_after_a_failure() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pace.sent(now, INTERVAL);
            assert_eq!(pace.due(), None);
            pace.failed(now, INTERVAL, 1.0);
            pace.hurry(now);
            pauses.push((pace.due().unwrap() - now).as_millis());
        }
        assert_eq!(pauses, [50, 100, 200, 400, 500, 500]);
        pace.reconnected(now);
        assert_eq!(pace.due(), Some(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_verifications_follow_at_once_and_more_have_a_pace() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let mut at = now;
        for _ in 0..204 {
            at = pace.due().unwrap();
            pace.sent(at, INTERVAL);
            pace.succeeded();
            pace.hurry(at);
        }
        assert_eq!(at - now, GAP * 200);
    }
}
