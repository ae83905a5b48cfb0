//! When the next connection is tried.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::backoff;

/// First delay: a restarted Redis is back in some 20 ms.
const FIRST: Duration = Duration::from_millis(50);

/// Longest delay; what a Redis that is back may have to wait for a client. With the verification after
/// it, a fleet is coherent well within a second.
const LONGEST: Duration = Duration::from_millis(500);

/// Longest delay where the server answers and cannot serve: a read-only replica, which may be promoted.
const LONGEST_UNFIT: Duration = Duration::from_secs(5);

/// A connection that lasted this long was a good one. Longer than any attempt that fails takes.
const LIVED: Duration = Duration::from_secs(10);

/// The delays between attempts that fail.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    /// Waits after an attempt that began at `began` and has ended (or a connection that has).
    ///
    /// The delay counts from the beginning: an attempt that took its time to fail has waited enough,
    /// and after a connection that lasted a while the delays start afresh.
    pub(super) async fn wait(&mut self, began: Instant) {
        self.wait_at_most(began, LONGEST).await;
    }

    /// As [`wait`](Self::wait), after a server that answers and cannot serve.
    pub(super) async fn wait_for_another(&mut self, began: Instant) {
        self.wait_at_most(began, LONGEST_UNFIT).await;
    }

    async fn wait_at_most(&mut self, began: Instant, longest: Duration) {
        if began.elapsed() > LIVED {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        sleep_until(began + backoff::jittered(FIRST, longest, self.failures)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_lived_makes_the_next_delay_the_first_again() {
        let mut retry = Retry::default();
        for _ in 0..5 {
            let began = Instant::now();
            retry.wait(began).await;
        }
        let began = Instant::now();
        retry.wait(began).await;
        assert!(began.elapsed() >= LONGEST / 2, "{:?}", began.elapsed());
        // A clock that is paused shows no time between two readings of it.
        tokio::time::advance(LIVED + FIRST).await;
        retry.wait(began).await;
        let began = Instant::now();
        retry.wait(began).await;
        assert!(began.elapsed() <= 2 * FIRST, "{:?}", began.elapsed());
    }
}
