//! The read path: store, flight, loader, store.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::audit::Audit;
use crate::cache::refresh::Pauses;
use crate::cache::tier::{Tier, Wanted};
use crate::cache::unknown::UnknownLoads;
use crate::cache::{Lookup, Outcome};
use crate::core::Core;
use crate::flight::{Boarding, Flights, From, Landing};
use crate::instance::Lifeline;
use crate::key::KeyRef;
use crate::loader::{BatchLoader, Load, Loaded, Loader};
use crate::metrics::{CacheMetrics, LaneWait, Miss};
use crate::settings::CacheOptions;
use crate::store::stamps::Stamp;
use crate::store::{Found, Store};
use crate::time::Nanos;
use crate::without::{Mechanism, without};
use crate::{Error, ErrorKind, Key};

/// When a read began.
#[derive(Clone, Copy)]
pub(super) struct Began {
    stamp: Stamp,
    at: Nanos,
    /// When its lane had been verified by then.
    verified_at: Nanos,
}

/// How long a read waits for its lane to be verified before it goes to the loader.
pub(crate) const VERIFICATION_WAIT: Duration = Duration::from_millis(250);

pub(crate) type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;

/// What memory answers: a value, or that there is none.
pub(crate) struct Hit<V> {
    pub(crate) value: Option<V>,
    age: Nanos,
}

impl<V> std::convert::From<Hit<V>> for Lookup<V> {
    fn from(Hit { value, age }: Hit<V>) -> Self {
        let outcome = if value.is_some() {
            Outcome::Hit
        } else {
            Outcome::Negative
        };
        Self::new(value, outcome, age)
    }
}

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
    /// None unless hits are to be audited.
    pub(crate) audit: Option<Audit<V>>,
    pub(crate) tier: Option<Box<dyn Tier<K, V>>>,
    pub(crate) permits: Semaphore,
    /// None unless loads of unknown keys are limited.
    pub(crate) unknown_loads: Option<UnknownLoads>,
    /// Loads that wait for their turn, and the bytes of their keys.
    pub(crate) waiting: AtomicU64,
    pub(crate) pauses: Pauses,
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
    /// Always inlined, and with a small result: a call and a copy would be a tenth of it.
    #[inline(always)]
    pub(crate) fn hit<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Hit<V>, Found<V>>
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
                self.audit(hash, key, Some(&value));
                Ok(Hit {
                    value: Some(value),
                    age,
                })
            }
            Found::Absent { age } => {
                self.metrics.negative_hits.inc();
                self.audit(hash, key, None);
                Ok(Hit { value: None, age })
            }
            missing => Err(missing),
        }
    }

    /// The rest of a read that was no hit. `load` replaces the cache's loader; `wanted` says where
    /// the value may come from.
    pub(crate) async fn miss<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        missing: Found<V>,
        mut load: Option<Load<V>>,
        wanted: Wanted,
    ) -> Result<Lookup<V>, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let began = self.began(hash);
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
            let (passenger, outcome) = match self.flights.board(hash, &owned, newest) {
                Boarding::Join(passenger) => {
                    self.metrics.coalesced.inc();
                    (passenger, Outcome::Coalesced)
                }
                Boarding::Lead(leader, passenger) => {
                    // What is in memory by now may be from the tier.
                    let look = (wanted != Wanted::OfSource).then(|| self.second_look(hash, key));
                    if let Some(hit) = look.flatten() {
                        leader.withdraw();
                        return Ok(hit.into());
                    }
                    self.metrics.misses[cause].inc();
                    match load.take().map_or_else(|| self.load_of(&owned), Ok) {
                        Ok(load) => self.depart(leader, load, wanted),
                        Err(error) => leader.land(Err(error), 0, || 0),
                    }
                    (passenger, Outcome::Miss)
                }
            };
            let Some(landing) = passenger.landing().await else {
                // Its leader has found it in memory.
                match self.hit(hash, key) {
                    Ok(hit) if wanted != Wanted::OfSource => return Ok(hit.into()),
                    Ok(_) | Err(_) => continue,
                }
            };
            // Otherwise load again, in the end after this read began.
            if !self.answers(began, &landing) || !wanted.accepts(&landing) {
                continue;
            }
            let outcome = match (outcome, landing.from) {
                (Outcome::Miss, From::SharedTier) => Outcome::Shared,
                (outcome, _) => outcome,
            };
            let age = self.core().clock.now().saturating_sub(landing.loaded_at);
            return landing.result.map(|value| Lookup::new(value, outcome, age));
        }
    }

    /// Looks into memory again, before a load. No lock of the flights is held: a hit may start a
    /// reload, which takes that lock.
    pub(super) fn second_look<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Option<Hit<V>>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let _under_the_lock =
            without(Mechanism::SecondLookOutsideTheLock).then(|| self.flights.hold(hash));
        self.hit(hash, key).ok()
    }

    pub(super) fn began(&self, hash: u64) -> Began {
        let core = self.core();
        Began {
            verified_at: core.stamps.lane(hash).verified_at(),
            stamp: core.stamps.token(),
            at: core.clock.now(),
        }
    }

    /// Whether a load answers a read that may have joined it.
    ///
    /// Not if it began before an invalidation that the read must see (its tags were unknown when the
    /// read joined). Not either if it began so long before the read that the promise was over: it
    /// may run for `load_timeout`, and while the bus is down nobody hears what is invalidated
    /// meanwhile. A verification that comes later does not vouch for it, for the event that it
    /// proves applied may be the one that this load has missed.
    pub(super) fn answers(&self, began: Began, landing: &Landing<V>) -> bool {
        if landing.result.is_err() {
            return true;
        }
        let vouched_for = landing.vouched_at.max(began.verified_at);
        landing.answers(began.stamp) && self.store.vouches(vouched_for, began.at)
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

    /// Whether a lane verified at this time keeps the promise for what it vouches for.
    #[cfg(feature = "shared")]
    pub(crate) fn vouched(&self, verified_at: crate::time::Nanos) -> bool {
        let clock = self.core().clock;
        self.options.max_staleness.is_none_or(|bound| {
            let bound = crate::time::nanos(bound).saturating_sub(clock.step());
            clock.now().saturating_sub(verified_at) <= bound
        })
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
        core.set_busy(true);
        if !lane.up() || !core.bus.connected() {
            core.verify_key_now(hash);
            return Err(Miss::Unverified);
        }
        let wait = async {
            loop {
                let mut verified = std::pin::pin!(lane.verified.notified());
                verified.as_mut().enable();
                match self.hit(hash, key).map_err(|missing| self.cause(&missing)) {
                    Ok(hit) => return Ok(hit.into()),
                    Err(Some(cause)) => return Err(cause),
                    Err(None) => core.verify_key_now(hash),
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
}
