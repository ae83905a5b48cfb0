//! One load: its turn, its token, and what becomes of its value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::cache::inner::{Inner, VERIFICATION_WAIT};
use crate::cache::tier::{Arrived, Read, Ticket, Turn, Waiting, Wanted};
use crate::cache::unknown::give_back;
use crate::core::Phase;
use crate::flight::Leader;
use crate::key::canonical;
use crate::loader::{Load, Loaded, MAX_TAGS};
use crate::metrics::{CacheMetrics, LaneWait, LoadOutcome};
use crate::store::entry::{Meta, Stored, Tags};
use crate::store::packed::Packed;
use crate::store::stamps::Stamp;
use crate::store::{Insertion, PastTtl};
use crate::time::{Clock, Nanos, nanos};
use crate::window::window;
use crate::without::{Mechanism, without};
use crate::{Error, ErrorKind, Key};

/// Loads that may wait for their turn in one cache. Each is a task of about 1 KiB.
const MAX_WAITING: u64 = 65_536;

/// Bytes that the keys of those loads take together, which may be of 64 KiB each.
const MAX_WAITING_BYTES: u64 = 64 << 20;

/// Where a number of loads begins in a count of both; below it are bytes.
const ONE_WAITS: u64 = 1 << 40;

/// What a remembered absence takes beyond its key.
const ABSENCE: usize = 64;

/// How many bytes a key takes, as far as anyone can tell: its canonical ones.
pub(crate) fn length(key: &impl Key) -> usize {
    canonical(key).map_or(0, |bytes| bytes.len())
}

impl<K, V> Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts a flight, detached from whoever asked for it. What may be in the shared tier is looked
    /// for there first, by one of a few tasks; only what must be loaded has a task of its own.
    pub(crate) fn depart(self: &Arc<Self>, leader: Leader<K, V>, load: Load<V>, wanted: Wanted) {
        let cache = self.clone();
        match &self.tier {
            Some(tier) if wanted != Wanted::OfSource => {
                let look = move |turn| Box::pin(cache.look_first(leader, load, wanted, turn)) as _;
                tier.enqueue(self.core(), Box::new(look));
            }
            _ => drop(self.core().runtime.spawn(cache.fly(leader, load, None))),
        }
    }

    /// The flight's question to the shared tier, and what follows from the answer.
    async fn look_first(
        self: Arc<Self>,
        leader: Leader<K, V>,
        load: Load<V>,
        wanted: Wanted,
        turn: Turn,
    ) {
        let read = match &self.tier {
            Some(tier) => tier.read(&self, &leader, wanted, turn).await,
            None => Read::Load(None),
        };
        let runtime = self.core().runtime.clone();
        match read {
            Read::Found(arrived) => self.land_shared(leader, arrived),
            Read::Load(ticket) => drop(runtime.spawn(self.fly(leader, load, ticket))),
            Read::Wait(waiting) => drop(runtime.spawn(self.follow(leader, load, waiting))),
        }
    }

    /// The flight waits for another instance's load.
    async fn follow(self: Arc<Self>, leader: Leader<K, V>, load: Load<V>, waiting: Waiting) {
        let read = match &self.tier {
            Some(tier) => tier.wait(&self, &leader, waiting).await,
            None => Read::Load(None),
        };
        match read {
            Read::Found(arrived) => self.land_shared(leader, arrived),
            Read::Load(ticket) => self.fly(leader, load, ticket).await,
            // It has waited.
            Read::Wait(_) => self.fly(leader, load, None).await,
        }
    }

    /// One load.
    async fn fly(self: Arc<Self>, leader: Leader<K, V>, load: Load<V>, ticket: Option<Ticket>) {
        let loan = match self.admit(leader.hash(), leader.key()).await {
            Ok(loan) => loan,
            Err(error) => return self.fail(leader, error, LoadOutcome::Limited).await,
        };
        let permit = match self.permit(|| length(leader.key())).await {
            Ok(permit) => permit,
            Err(error) => {
                give_back(loan);
                return self.fail(leader, error, LoadOutcome::Overloaded).await;
            }
        };
        let (token, loaded_at) = self.begin(std::slice::from_ref(&leader));
        let running = InFlight::new(&self);
        let result = timeout(self.options.load_timeout, load).await;
        drop((permit, running));
        match &result {
            Ok(Ok(loaded)) if loaded.value.is_some() => give_back(loan),
            _ => drop(loan),
        }
        match result {
            Ok(Ok(loaded)) => {
                let shared = ticket.map(|ticket| (ticket, leader.key().clone(), loaded.clone()));
                let landed = self.land(leader, loaded, token, loaded_at).await;
                if let (Landed::Valid, Some((ticket, key, loaded))) = (landed, shared)
                    && let Some(tier) = &self.tier
                {
                    tier.write(&self, &key, ticket, loaded).await;
                }
            }
            Ok(Err(error)) => {
                let error = Error::with_source(ErrorKind::Load, "the loader failed", error);
                self.fail(leader, error, LoadOutcome::Error).await;
            }
            Err(_) => {
                self.fail(leader, self.timed_out(), LoadOutcome::Timeout)
                    .await;
            }
        }
    }

    /// Takes the token, and the time, before the loader runs.
    pub(crate) fn begin(&self, leaders: &[Leader<K, V>]) -> (u64, Nanos) {
        let core = self.core();
        let loaded_at = core.clock.now();
        let token = core.stamps.token();
        for leader in leaders {
            leader.begin(token);
        }
        (token, loaded_at)
    }

    pub(crate) fn timed_out(&self) -> Error {
        let after = humantime::format_duration(self.options.load_timeout);
        let message = format!("the loader did not finish within load_timeout ({after})");
        Error::new(ErrorKind::LoadTimeout, message)
    }

    /// A place among the loads that run; waits for it at most `load_timeout`.
    pub(crate) async fn permit(
        &self,
        keys: impl FnOnce() -> usize,
    ) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let overloaded = || {
            let message = format!(
                "{} loads are running and none ended in time (max_loads); the source is too slow",
                self.options.max_loads
            );
            Error::new(ErrorKind::Overloaded, message)
        };
        let place = Place::take(&self.waiting, keys()).ok_or_else(overloaded)?;
        let permit = timeout(self.options.load_timeout, self.permits.acquire()).await;
        drop(place);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }

    /// Stores what was loaded, unless it was invalidated meanwhile, and tells everybody.
    pub(crate) async fn land(
        &self,
        leader: Leader<K, V>,
        loaded: Loaded<V>,
        token: u64,
        loaded_at: Nanos,
    ) -> Landed {
        let Loaded { value, ttl, tags } = loaded;
        if tags.len() > MAX_TAGS {
            let message = format!(
                "an entry may have at most {MAX_TAGS} tags, not {}",
                tags.len()
            );
            let error = Error::new(ErrorKind::Load, message);
            self.fail(leader, error, LoadOutcome::Error).await;
            return Landed::Invalid;
        }
        let outcome = if value.is_some() {
            LoadOutcome::Ok
        } else {
            LoadOutcome::Absent
        };
        self.metrics.loads[outcome].inc();
        let tags: Box<[u64]> = tags.iter().map(|tag| crate::key::tag_hash(tag)).collect();
        let arrived = Arrived {
            token,
            loaded_at,
            vouched_at: loaded_at,
            life: self.life(ttl, value.is_some()),
            tags,
            own_ttl: ttl.is_some(),
            value,
        };
        let landed = self.keep(&leader, &arrived);
        let Arrived { value, tags, .. } = arrived;
        leader.land(Ok(value), loaded_at, || self.store.newest_tag(&tags));
        landed
    }

    /// Stores what the shared tier had, unless it was invalidated meanwhile, and tells everybody.
    pub(crate) fn land_shared(&self, leader: Leader<K, V>, arrived: Arrived<V>) {
        self.keep(&leader, &arrived);
        let Arrived {
            value,
            loaded_at,
            vouched_at,
            tags,
            ..
        } = arrived;
        leader.land_shared(value, loaded_at, vouched_at, || {
            self.store.newest_tag(&tags)
        });
    }

    fn keep(&self, leader: &Leader<K, V>, arrived: &Arrived<V>) -> Landed {
        let value = &arrived.value;
        let bytes = match (&self.weigher, value) {
            (Some(weigh), Some(value)) => weigh(leader.key(), value),
            (Some(_), None) => (length(leader.key()) + ABSENCE) as u64,
            (None, _) => 0,
        };
        let token = self.token_to_store(leader.hash(), &arrived.tags, arrived.token);
        let meta = Meta {
            packed: Packed::new(
                token,
                arrived.loaded_at,
                arrived.life,
                bytes,
                arrived.own_ttl,
            ),
            tags: (!arrived.tags.is_empty()).then(|| Arc::new(arrived.tags.clone())),
        };
        // After shutdown nobody invalidates any more, so nothing is stored.
        if self.core().phase() == Phase::Closed {
            return Landed::Invalid;
        }
        let stored = Stored {
            hash: leader.hash(),
            key: leader.key().clone(),
        };
        match self.store.insert(&stored, value.clone(), meta) {
            Insertion::Stored | Insertion::Busy => {}
            Insertion::Discarded(_) => {
                self.metrics.loads_discarded.inc();
                return Landed::Invalid;
            }
            Insertion::Oversized => self.metrics.oversized.inc(),
        }
        Landed::Valid
    }

    /// A load's token, unless a test asks what happens where fences spare loads in flight.
    fn token_to_store(&self, hash: u64, tags: &[u64], token: u64) -> u64 {
        if without(Mechanism::FenceOfLoadsInFlight) && self.store.newest(hash, tags) <= token {
            return self.core().stamps.token();
        }
        token
    }

    /// How long an entry may live; jitter only shortens it.
    pub(crate) fn life(&self, own: Option<Duration>, exists: bool) -> Nanos {
        let default = if exists {
            self.options.ttl
        } else {
            self.options.negative_ttl
        };
        let full = nanos(own.unwrap_or(default)) as f64;
        (full * (1.0 - self.options.ttl_jitter * fastrand::f64())) as Nanos
    }

    /// The load failed: an entry that is past its TTL, and nothing else, may stand in for it.
    pub(crate) async fn fail(&self, leader: Leader<K, V>, error: Error, outcome: LoadOutcome) {
        self.metrics.loads[outcome].inc();
        match self.stand_in(leader.hash(), leader.key()).await {
            Some(StandIn {
                value,
                tags,
                age,
                vouched_at,
                token,
            }) => {
                self.metrics.stale_if_error.inc();
                window().await;
                let loaded_at = self.core().clock.now().saturating_sub(age);
                let hash = leader.hash();
                let newest = || {
                    if without(Mechanism::StandInToken) {
                        return 0;
                    }
                    self.store
                        .newest(hash, tags.as_deref().map_or(&[], |tags| tags))
                };
                leader.land_stand_in(value, (loaded_at, vouched_at), token, newest);
            }
            None => leader.land(Err(error), 0, || 0),
        }
    }

    /// Waits for one verification, as [`verified`](Self::verified) does: an idle instance verifies
    /// too seldom to vouch for an entry at any moment.
    async fn stand_in(&self, hash: u64, key: &K) -> Option<StandIn<V>> {
        let window = nanos(self.options.stale_if_error?);
        let core = self.core();
        let lane = core.stamps.lane(hash);
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                // Before the entry is looked up: what is invalidated later is above it.
                let token = core.stamps.token();
                match self.store.past_ttl(hash, key, window) {
                    PastTtl::Value {
                        value,
                        tags,
                        age,
                        vouched_at,
                    } => {
                        return Some(StandIn {
                            value,
                            tags,
                            age,
                            vouched_at,
                            token,
                        });
                    }
                    PastTtl::Unverified if lane.up() && core.bus.connected() => {
                        core.verify_key_now(hash);
                    }
                    PastTtl::Unverified | PastTtl::Nothing => return None,
                }
                verified.await;
            }
        };
        let Ok(found) = timeout(VERIFICATION_WAIT, wait).await else {
            // The next one, of a batch say, does not wait as well.
            lane.set_down();
            core.metrics.lane_waits[LaneWait::TimedOut].inc();
            return None;
        };
        found
    }
}

/// An expired entry that stands in for a load which failed.
struct StandIn<V> {
    value: V,
    tags: Tags,
    age: Nanos,
    vouched_at: Nanos,
    /// What its lookup saw of the invalidation clock.
    token: Stamp,
}

/// Whether what was loaded still counted when it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landed {
    Valid,
    /// It was invalidated meanwhile, cannot be stored at all, or nobody invalidates any more.
    Invalid,
}

/// Counts a load as running for as long as it lives, and then how long that was.
pub(crate) struct InFlight<'a> {
    metrics: &'a CacheMetrics,
    clock: Clock,
    /// To the nanosecond: loads are often faster than a step of the coarse clock.
    began: Nanos,
}

impl<'a> InFlight<'a> {
    pub(crate) fn new<K, V>(cache: &'a Inner<K, V>) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let (metrics, clock) = (&*cache.metrics, cache.core().clock);
        metrics.loads_in_flight.inc();
        Self {
            metrics,
            clock,
            began: clock.precise(),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.loads_in_flight.dec();
        let took = self.clock.precise().saturating_sub(self.began);
        self.metrics
            .load_duration
            .observe(Duration::from_nanos(took));
        // The leader, dropped by the same panic, tells the callers.
        if std::thread::panicking() {
            self.metrics.loads[LoadOutcome::Panic].inc();
        }
    }
}

/// A place among those who wait for a load to begin.
pub(crate) struct Place<'a> {
    waiting: &'a AtomicU64,
    takes: u64,
}

impl<'a> Place<'a> {
    /// For loads of keys that take so many bytes.
    pub(crate) fn take(waiting: &'a AtomicU64, bytes: usize) -> Option<Self> {
        let takes = ONE_WAITS + (bytes as u64).min(MAX_WAITING_BYTES);
        let place = Self { waiting, takes };
        let all = waiting.fetch_add(takes, Relaxed) + takes;
        // Dropped at once, and so given back, when there is none.
        (all / ONE_WAITS <= MAX_WAITING && all % ONE_WAITS <= MAX_WAITING_BYTES).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.takes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_that_wait_are_bounded_by_number_and_by_the_bytes_of_their_keys() {
        let waiting = AtomicU64::new(0);
        let fits = |bytes: usize| {
            let mut places = Vec::new();
            while let Some(place) = Place::take(&waiting, bytes) {
                places.push(place);
            }
            places.len() as u64
        };
        assert_eq!(fits(0), MAX_WAITING);
        assert_eq!(fits(10), MAX_WAITING);
        assert_eq!(fits(65_536), MAX_WAITING_BYTES / 65_536);
        assert_eq!(
            fits(usize::MAX),
            1,
            "a batch whose keys take more than all waits alone"
        );
        assert_eq!(waiting.load(Relaxed), 0, "all places are given back");
    }
}
