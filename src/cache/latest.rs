//! Reads that see whatever was published before they began.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::cache::inner::{Inner, VERIFICATION_WAIT};
use crate::cache::tier::Wanted;
use crate::cache::{Cache, Lookup};
use crate::key::{KeyRef, too_long};
use crate::metrics::{LaneWait, Miss};
use crate::store::Found;
use crate::time::nanos;
use crate::{Error, Key};

/// Time between a verification and the next one that such a read asks for: however many ask, Redis
/// is asked 200 times a second at most, and nobody waits more than this longer.
const PACE: Duration = Duration::from_millis(5);

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// As [`lookup`](Self::lookup), and reflects every invalidation that was published before the
    /// call, whoever published it: one round trip to Redis, which all calls of the moment share,
    /// and then memory, as long as that knows the key.
    ///
    /// For the rare answer that must not be a hop old. A hit normally is: where one instance has
    /// created a key, another may believe for a moment that it does not exist, and what it refuses
    /// then has been created before.
    ///
    /// While Redis cannot be asked, the value is loaded from the source. The call waits 250 ms for
    /// Redis at most, once for each outage.
    ///
    /// ```
    /// # use unstale::{Instance, Lookup, Outcome, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), unstale::Error> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// # let keys = instance
    /// #     .cache::<String, u64>("api_keys")
    /// #     .loader(|key: String| async move { Ok::<_, std::io::Error>((key == "good").then_some(7)) })
    /// #     .build()?;
    /// # let key = "bad";
    /// let mut found = keys.lookup(key).await?;
    /// if found.value.is_none() && found.outcome != Outcome::Miss {
    ///     found = keys.latest(key).await?; // before we say that there is no such key
    /// }
    /// # assert_eq!(found.value, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn latest<Q>(&self, key: &Q) -> Result<Lookup<V>, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let (missing, wanted) = if self.0.caught_up(hash).await {
            match self.0.hit(hash, key) {
                Ok(hit) => return Ok(hit.into()),
                Err(missing) => (missing, Wanted::Value),
            }
        } else {
            // What was published is unknown, so no entry, no load that has begun and no value of
            // the tier counts.
            self.0.store.drop_key(hash);
            (Found::Missing(Miss::Unverified), Wanted::OfSource)
        };
        Box::pin(self.0.miss(hash, key, missing, None, wanted)).await
    }
}

impl<K, V> Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits until everything that was published to the key's lane before the call is applied;
    /// false while the bus counts as down.
    async fn caught_up(self: &Arc<Self>, hash: u64) -> bool {
        let core = self.core();
        let lane = core.stamps.lane(hash);
        // A verification that was sent later than this proves it.
        let began = core.clock.precise();
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                if lane.verified_at() > began {
                    return true;
                }
                if !lane.up() || !core.bus.connected() {
                    return false;
                }
                let since = core.clock.precise().saturating_sub(lane.verified_at());
                let pause = nanos(PACE).saturating_sub(since);
                if pause > 0 {
                    sleep(Duration::from_nanos(pause)).await;
                    continue; // somebody else's may have answered meanwhile
                }
                core.set_busy(true);
                core.verify_key_now(hash);
                verified.await;
            }
        };
        match timeout(VERIFICATION_WAIT, wait).await {
            Ok(caught_up) => {
                if caught_up {
                    core.metrics.lane_waits[LaneWait::Verified].inc();
                }
                caught_up
            }
            Err(_) => {
                lane.set_down();
                core.metrics.lane_waits[LaneWait::TimedOut].inc();
                false
            }
        }
    }
}
