//! How much of the log is not published yet.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::RelayMetrics;

/// How often it is asked where the log ends while no round asks: each is a query of the database.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Two places of the log, and what is between them.
pub(super) struct Behind {
    metrics: Arc<RelayMetrics>,
    /// Up to where the log was read and published.
    upto: u64,
    /// Where it ended when that was asked last.
    end: u64,
    next: Instant,
}

impl Behind {
    pub(super) fn new(metrics: Arc<RelayMetrics>) -> Self {
        Self {
            metrics,
            upto: 0,
            end: 0,
            next: Instant::now(),
        }
    }

    /// Returns whether it is time to ask where the log ends.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// The log ends there.
    pub(super) fn ends(&mut self, end: u64) {
        (self.end, self.next) = (end, Instant::now() + LOOK);
        self.show();
    }

    /// Everything up to there is published. Returns whether that is further than before.
    pub(super) fn published(&mut self, upto: u64) -> bool {
        let further = upto > self.upto;
        self.upto = self.upto.max(upto);
        self.show();
        further
    }

    fn show(&self) {
        let bytes = self.end.saturating_sub(self.upto);
        self.metrics.lag_bytes.set(bytes);
    }
}
