//! How long to wait before the next connection.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// First delay: a restarted Redis is back in some 20 ms.
const FIRST: Duration = Duration::from_millis(50);

/// Longest delay; what a Redis that is back may have to wait for a client. With the verification after
/// it, a fleet is coherent well within a second.
const LONGEST: Duration = Duration::from_millis(500);

/// A connection that lasted this long was a good one. Longer than any attempt that fails takes.
const LIVED: Duration = Duration::from_secs(10);

/// Delays between attempts that fail: doubling from [`FIRST`] to [`LONGEST`], with jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits after an attempt that began at `began` and has ended (or a connection that has).
    ///
    /// The delay counts from the beginning: an attempt that took its time to fail has waited enough,
    /// and after a connection that lasted a while the delays start afresh.
    pub(super) async fn wait(&mut self, began: Instant) {
        if began.elapsed() > LIVED {
            self.failures = 0;
        }
        let delay = self.next(fastrand::f64());
        sleep_until(began + delay).await;
    }

    /// `jitter` in 0..1 takes away up to half.
    fn next(&mut self, jitter: f64) -> Duration {
        let delay = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        delay.mul_f64(1.0 - jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_half_a_second() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..7).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 500, 500, 500]);
        assert_eq!(backoff.next(1.0).as_millis(), 250);
    }
}
