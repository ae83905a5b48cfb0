//! How a read waits until its lane is verified.

use tokio::time::timeout;
use tracing::Span;

use crate::coherence::member::Member;
use crate::coherence::wait::until_verified;
use crate::metrics::LaneWait;
use crate::spans;
use crate::store::stamps::lane_of;

/// Why a read waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotVerified;

impl Member {
    /// Returns whether a read that needs a verification waits for one.
    pub(crate) fn may_be_verified(&self, hash: u64) -> bool {
        self.stamps.lane(hash).up() && self.bus.connected()
    }

    /// Waits until `test` returns something, and asks it again after every verification of the lane of
    /// this hash. It ends at once while the lane counts as down or no connection is up, though it asks
    /// for a verification, which notices that Redis is back.
    ///
    /// A read waits for `verification_wait`. After one wait that fails the lane counts as down until a verification succeeds: a Redis that
    /// swallows everything costs one wait, not one for each read.
    ///
    /// `test` decides by what the lane's [`Freshness`](crate::store::stamps::Freshness) says at that time, and runs under no lock.
    pub(crate) async fn wait_verified<T>(
        &self,
        hash: u64,
        test: impl FnMut() -> Option<T>,
    ) -> Result<T, NotVerified> {
        let lane = self.stamps.lane(hash);
        let mut waits = false;
        let mut span = Span::none();
        let ask = || {
            self.set_busy(true);
            self.verify_key_now(hash);
            waits = self.may_be_verified(hash);
            if waits && span.is_none() {
                span = spans::verification_wait(lane_of(hash, self.lane_count()));
            }
            waits
        };
        match timeout(
            self.settings.verification_wait,
            until_verified(lane, ask, test),
        )
        .await
        {
            Ok(Some(found)) => {
                if waits {
                    self.metrics.lane_waits.note(LaneWait::Verified, &span);
                }
                Ok(found)
            }
            Ok(None) => Err(NotVerified),
            Err(_) => {
                lane.set_down();
                self.metrics.lane_waits.note(LaneWait::TimedOut, &span);
                Err(NotVerified)
            }
        }
    }
}
