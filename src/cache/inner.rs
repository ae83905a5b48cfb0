//! The read path: store, flight, loader, store.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::cache::{Lookup, Outcome};
use crate::core::{Core, Phase, Target};
use crate::event::What;
use crate::flight::{Boarding, Flights, Leader};
use crate::instance::Lifeline;
use crate::key::KeyRef;
use crate::loader::{BatchLoader, Load, Loaded, Loader, MAX_TAGS};
use crate::metrics::{
    CacheMetrics, LaneWait, LoadOutcome, Miss, Scope as Invalidated, Side as Source,
};
use crate::outbox::Item;
use crate::settings::CacheOptions;
use crate::store::entry::{Meta, Stored};
use crate::store::{Found, Insertion, PastTtl, Store};
use crate::time::{Nanos, nanos};
use crate::{Error, ErrorKind, Key};

/// How long a read waits for its lane to be verified before it goes to the loader.
const VERIFICATION_WAIT: Duration = Duration::from_millis(250);

/// Loads that may wait for their turn in one cache. Each is a task of about 1 KiB.
const MAX_WAITING: usize = 65_536;

pub(crate) type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;

pub(crate) struct Inner<K, V> {
    pub(crate) lifeline: Arc<Lifeline>,
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) options: CacheOptions,
    pub(crate) store: Store<K, V>,
    pub(crate) flights: Arc<Flights<K, V>>,
    pub(crate) loader: Option<Arc<Loader<K, V>>>,
    pub(crate) batch_loader: Option<Arc<BatchLoader<K, V>>>,
    pub(crate) weigher: Option<Arc<Weigher<K, V>>>,
    pub(crate) permits: Semaphore,
    pub(crate) waiting: AtomicUsize,
    pub(crate) metrics: Arc<CacheMetrics>,
}

impl<K, V> Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn core(&self) -> &Arc<Core> {
        self.lifeline.core()
    }

    /// A hit costs what happens in here: the lookup, one counter, no lock of ours, no allocation.
    #[inline]
    pub(crate) fn hit<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Lookup<V>, Found<V>>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        match self.store.lookup(hash, key) {
            Found::Value {
                value,
                age,
                refresh,
            } => {
                self.metrics.hit(age);
                if refresh {
                    self.refresh(hash, key);
                }
                Ok(Lookup::new(Some(value), Outcome::Hit, age))
            }
            Found::Absent { age } => {
                self.metrics.negative_hits.inc();
                Ok(Lookup::new(None, Outcome::Negative, age))
            }
            missing => Err(missing),
        }
    }

    /// The rest of a read that was no hit. `load` replaces the cache's loader.
    pub(crate) async fn miss<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        missing: Found<V>,
        mut load: Option<Load<V>>,
    ) -> Result<Lookup<V>, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let began = self.core().stamps.token();
        let cause = match self.cause(&missing) {
            Some(cause) => cause,
            None => match self.verified(hash, key).await {
                Ok(lookup) => return Ok(lookup),
                Err(cause) => cause,
            },
        };
        let owned = key.to_owned();
        loop {
            let newest = || self.store.newest(hash, &[]);
            let boarding = self
                .flights
                .board(hash, &owned, newest, || self.hit(hash, key).ok());
            let (passenger, outcome) = match boarding {
                Boarding::Found(lookup) => return Ok(lookup),
                Boarding::Join(passenger) => {
                    self.metrics.coalesced.inc();
                    (passenger, Outcome::Coalesced)
                }
                Boarding::Lead(leader, passenger) => {
                    self.metrics.misses[cause].inc();
                    match load.take().map_or_else(|| self.load_of(&owned), Ok) {
                        Ok(load) => drop(self.core().runtime.spawn(self.clone().fly(leader, load))),
                        Err(error) => leader.land(Err(error), 0, || 0),
                    }
                    (passenger, Outcome::Miss)
                }
            };
            let landing = passenger.landing().await;
            // It may have begun before an invalidation that this read must see (its tags were
            // unknown when the read joined): load again, in the end after this read began.
            if !landing.answers(began) {
                continue;
            }
            let age = self.core().clock.now().saturating_sub(landing.loaded_at);
            return landing.result.map(|value| Lookup::new(value, outcome, age));
        }
    }

    /// Why a read has to load; `None` if a verification may yet make it a hit. Ask once a read: it
    /// observes how long an entry was past its TTL.
    pub(crate) fn cause(&self, missing: &Found<V>) -> Option<Miss> {
        match missing {
            Found::Missing(cause) => Some(*cause),
            Found::Expired { overage } => {
                let overage = Duration::from_nanos(*overage);
                self.metrics.expiry_overage.observe(overage);
                Some(Miss::Expired)
            }
            Found::Unverified | Found::Value { .. } | Found::Absent { .. } => None,
        }
    }

    pub(crate) fn load_of(&self, key: &K) -> Result<Load<V>, Error> {
        if let Some(loader) = &self.loader {
            return Ok(loader(key.clone()));
        }
        let Some(load) = self.batch_loader.clone() else {
            let message = format!("cache {:?} has no loader; use `get_with`", self.name);
            return Err(Error::new(ErrorKind::NoLoader, message));
        };
        let key = key.clone();
        Ok(Box::pin(async move {
            let pairs = load(vec![key.clone()]).await?;
            let mine = pairs.into_iter().find(|(loaded, _)| *loaded == key);
            Ok(mine.map_or_else(|| Loaded::new(None), |(_, value)| value))
        }))
    }

    /// Waits for one verification of the key's lane while the bus counts as up. After one wait in
    /// vain it counts as down until a verification succeeds: a black hole costs one wait, not one
    /// for each read.
    pub(crate) async fn verified<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Lookup<V>, Miss>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let core = self.core();
        let lane = core.stamps.lane(hash);
        core.busy.store(true, Relaxed);
        if !lane.up() || !core.bus.connected() {
            core.nudge.notify_one();
            return Err(Miss::Unverified);
        }
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                match self.hit(hash, key).map_err(|missing| self.cause(&missing)) {
                    Ok(lookup) => return Ok(lookup),
                    Err(Some(cause)) => return Err(cause),
                    Err(None) => core.nudge.notify_one(),
                }
                verified.await;
            }
        };
        match timeout(VERIFICATION_WAIT, wait).await {
            Ok(found) => {
                core.metrics.lane_waits[LaneWait::Verified].inc();
                found
            }
            Err(_) => {
                lane.set_down();
                core.metrics.lane_waits[LaneWait::TimedOut].inc();
                Err(Miss::Unverified)
            }
        }
    }

    /// Starts a reload in the background, unless one is under way.
    #[cold]
    fn refresh<Q>(self: &Arc<Self>, hash: u64, key: &Q)
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        if self.flights.has(hash) {
            return;
        }
        let owned = key.to_owned();
        // Without a loader nothing may be led: who joined would wait for a load that never begins.
        let Ok(load) = self.load_of(&owned) else {
            return;
        };
        let newest = || self.store.newest(hash, &[]);
        if let Boarding::Lead(leader, _) = self.flights.board(hash, &owned, newest, || None::<()>) {
            self.metrics.refreshes.inc();
            self.core().runtime.spawn(self.clone().fly(leader, load));
        }
    }

    /// One load, detached from whoever asked for it.
    pub(crate) async fn fly(self: Arc<Self>, leader: Leader<K, V>, load: Load<V>) {
        let permit = match self.permit().await {
            Ok(permit) => permit,
            Err(error) => return self.fail(leader, error, LoadOutcome::Overloaded).await,
        };
        let (token, loaded_at) = self.begin(std::slice::from_ref(&leader));
        let in_flight = InFlight::new(&self.metrics);
        let result = timeout(self.options.load_timeout, load).await;
        drop((permit, in_flight));
        self.metrics.load_duration.observe(self.since(loaded_at));
        match result {
            Ok(Ok(loaded)) => self.land(leader, loaded, token, loaded_at).await,
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

    pub(crate) fn since(&self, loaded_at: Nanos) -> Duration {
        Duration::from_nanos(self.core().clock.now().saturating_sub(loaded_at))
    }

    pub(crate) fn timed_out(&self) -> Error {
        let after = humantime::format_duration(self.options.load_timeout);
        let message = format!("the loader did not finish within load_timeout ({after})");
        Error::new(ErrorKind::LoadTimeout, message)
    }

    /// A place among the loads that run; waits for it at most `load_timeout`.
    pub(crate) async fn permit(&self) -> Result<SemaphorePermit<'_>, Error> {
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
        let place = Place::take(&self.waiting).ok_or_else(overloaded)?;
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
    ) {
        let Loaded { value, ttl, tags } = loaded;
        if tags.len() > MAX_TAGS {
            let message = format!(
                "an entry may have at most {MAX_TAGS} tags, not {}",
                tags.len()
            );
            let error = Error::new(ErrorKind::Load, message);
            return self.fail(leader, error, LoadOutcome::Error).await;
        }
        let outcome = if value.is_some() {
            LoadOutcome::Ok
        } else {
            LoadOutcome::Absent
        };
        self.metrics.loads[outcome].inc();
        let tags: Box<[u64]> = tags.iter().map(|tag| crate::key::tag_hash(tag)).collect();
        let bytes = match (&self.weigher, &value) {
            (Some(weigh), Some(value)) => weigh(leader.key(), value),
            _ => 0,
        };
        let meta = Meta {
            token,
            loaded_at,
            expires_at: loaded_at.saturating_add(self.life(ttl, value.is_some())),
            tags: (!tags.is_empty()).then(|| Arc::new(tags.clone())),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            hard_ttl: ttl.is_some(),
        };
        // After shutdown nobody invalidates any more, so nothing is stored.
        if self.core().phase() != Phase::Closed {
            let stored = Stored {
                hash: leader.hash(),
                key: leader.key().clone(),
            };
            match self.store.insert(&stored, value.clone(), meta) {
                Insertion::Stored | Insertion::Busy => {}
                Insertion::Discarded(_) => self.metrics.loads_discarded.inc(),
                Insertion::Oversized => self.metrics.oversized.inc(),
            }
        }
        leader.land(Ok(value), loaded_at, || self.store.newest_tag(&tags));
    }

    /// How long an entry may live; jitter only shortens it.
    fn life(&self, own: Option<Duration>, exists: bool) -> Nanos {
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
            Some((value, age)) => {
                self.metrics.stale_if_error.inc();
                let loaded_at = self.core().clock.now().saturating_sub(age);
                leader.land(Ok(Some(value)), loaded_at, || 0);
            }
            None => leader.land(Err(error), 0, || 0),
        }
    }

    /// Waits for one verification, as [`verified`](Self::verified) does: an idle instance verifies
    /// too seldom to vouch for an entry at any moment.
    async fn stand_in(&self, hash: u64, key: &K) -> Option<(V, Nanos)> {
        let window = nanos(self.options.stale_if_error?);
        let core = self.core();
        let lane = core.stamps.lane(hash);
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                match self.store.past_ttl(hash, key, window) {
                    PastTtl::Value { value, age } => return Some((value, age)),
                    PastTtl::Unverified if lane.up() && core.bus.connected() => {
                        core.nudge.notify_one();
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

    /// Drops one item here; the caller has it published.
    fn drop_item(&self, item: Item, source: Source) {
        let kind = match item {
            Item::Key { hash, .. } => {
                self.store.invalidate_key(hash);
                Invalidated::Key
            }
            Item::Tag { tag, .. } => {
                self.store.invalidate_tag(tag);
                Invalidated::Tag
            }
            Item::Cache { .. } => {
                self.store.invalidate_all();
                Invalidated::Cache
            }
        };
        self.metrics.invalidations[(kind, source)].inc();
    }
}

impl<K, V> Target for Inner<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, format: u32, what: &What) {
        if format != K::FORMAT {
            // Hashes of another format name other bytes: only everything is sure to include them.
            self.store.invalidate_all();
            self.metrics.invalidations[(Invalidated::Cache, Source::Remote)].inc();
            return;
        }
        match what {
            What::Keys(hashes) => {
                for hash in hashes {
                    self.store.invalidate_key(*hash);
                }
                let count = hashes.len() as u64;
                self.metrics.invalidations[(Invalidated::Key, Source::Remote)].add(count);
            }
            What::Tags(tags) => {
                for tag in tags {
                    self.store.invalidate_tag(*tag);
                }
                let count = tags.len() as u64;
                self.metrics.invalidations[(Invalidated::Tag, Source::Remote)].add(count);
            }
            What::Cache | What::Lane => {
                self.store.invalidate_all();
                self.metrics.invalidations[(Invalidated::Cache, Source::Remote)].inc();
            }
        }
    }

    fn drop_local(&self, item: Item) {
        self.drop_item(item, Source::Local);
    }

    fn measure(&self) -> u64 {
        self.metrics.entries.set(self.store.len() as u64);
        self.metrics.weight.set(self.store.bytes());
        let metrics = &self.metrics;
        metrics.hits()
            + metrics.negative_hits.get()
            + metrics.misses.total()
            + metrics.coalesced.get()
    }
}

/// Counts a load as running for as long as it lives.
pub(crate) struct InFlight<'a>(&'a CacheMetrics);

impl<'a> InFlight<'a> {
    pub(crate) fn new(metrics: &'a CacheMetrics) -> Self {
        metrics.loads_in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.loads_in_flight.dec();
        // The leader, dropped by the same panic, tells the callers.
        if std::thread::panicking() {
            self.0.loads[LoadOutcome::Panic].inc();
        }
    }
}

/// A place among those who wait for a load to begin.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        // Dropped at once, and so given back, when there is none.
        (waiting.fetch_add(1, Relaxed) < MAX_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
