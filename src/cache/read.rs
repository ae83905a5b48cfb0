//! One read: memory, the wait for a verification, a load that is under way or begins.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::cache::flight::{Joined, Landing, Origin, Wanted};
use crate::cache::lookup::{Hit, Lookup, Outcome};
use crate::cache::nested;
use crate::cache::stand_in::Waited;
use crate::cache::state::CacheState;
use crate::coherence::freshness::NotVerified;
use crate::key::reference::KeyRef;
use crate::loader::{Load, Loaded};
use crate::metrics::Miss;
use crate::mutants::{Mechanism, without};
use crate::store::stamps::Stamp;
use crate::store::{Found, NotServed};
use crate::time::Nanos;
use crate::{Error, ErrorKind, Key};

/// When a read began.
#[derive(Clone, Copy)]
pub(super) struct Began {
    stamp: Stamp,
    at: Nanos,
    /// When its lane had been verified by then.
    verified_at: Nanos,
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A hit costs what happens in here: the lookup, one counter, no lock of ours, no allocation.
    /// Always inlined, and with a small result: a call and a copy would be a tenth of it.
    ///
    /// With `confirm_absent` an absence is no hit: [`read`](Self::read) confirms it.
    #[inline(always)]
    pub(crate) fn hit<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Hit<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.look_up(hash, key, self.options.confirm_absent)
    }

    /// What memory holds and may serve.
    pub(crate) fn held<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Hit<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.look_up(hash, key, false)
    }

    #[inline(always)]
    fn look_up<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        confirm_absent: bool,
    ) -> Result<Hit<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let Found {
            value,
            age,
            refresh,
        } = self.store.lookup(hash, key)?;
        if value.is_some() {
            self.metrics.hit(age);
        } else if confirm_absent {
            return Err(NotServed::Unconfirmed);
        } else {
            self.metrics.negative_hits.inc();
        }
        if refresh {
            self.refresh(hash, key);
        }
        self.audit(hash, key, &value);
        Ok(Hit { value, age })
    }

    /// The rest of a read that was no hit. `load` replaces the cache's loader.
    pub(crate) async fn read<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        missing: NotServed,
        mut load: Option<Load<V>>,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let began = self.member().clock.precise();
        if matches!(missing, NotServed::Unconfirmed) {
            return self.latest(hash, key, began, load).await;
        }
        let found = self
            .miss(hash, key, missing, &mut load, Wanted::Value)
            .await?;
        self.confirm(hash, key, found, began, load).await
    }

    /// With `confirm_absent`: what does not exist, as memory or a load says that this call has not begun,
    /// is looked up again as of `began`. Another instance may have created it, and the event is on its way.
    pub(crate) async fn confirm<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        found: Lookup<V>,
        began: Nanos,
        load: Option<Load<V>>,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        if !self.is_to_be_confirmed(&found) {
            return Ok(found);
        }
        self.latest(hash, key, began, load).await
    }

    pub(crate) fn is_to_be_confirmed(&self, found: &Lookup<V>) -> bool {
        let loaded = found.value.is_some() || found.outcome == Outcome::Miss;
        !loaded && self.options.confirm_absent
    }

    /// Joins a load or leads one; `wanted` says where the value may come from. Leaves `load` in its place if
    /// it was not needed.
    async fn miss<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        missing: NotServed,
        load: &mut Option<Load<V>>,
        wanted: Wanted,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let began = self.began(hash);
        let cause = match self.cause(missing) {
            Some(cause) => cause,
            None => match self.verified(hash, key).await {
                Ok(lookup) => return Ok(lookup),
                Err(cause) => cause,
            },
        };
        let owned = key.to_key();
        if nested::has(self.id, hash) {
            return Err(self.recursion());
        }
        // Errors of the cache's loader mean nothing to a load that the caller brings.
        let heeds = load.is_none();
        loop {
            let newest = || self.store.newest(hash, &[]);
            let now = heeds.then(|| self.member().clock.now());
            let (mut waiter, outcome) = match self.flights.join(hash, &owned, now, newest) {
                Joined::Failed(error) => {
                    self.metrics.coalesced.inc();
                    return self.after_failure(hash, key, error).await;
                }
                Joined::Join(waiter) => {
                    self.metrics.coalesced.inc();
                    if nested::is_nested() {
                        self.flights.hurry(hash);
                    }
                    (waiter, Outcome::Coalesced)
                }
                Joined::Lead(mut leader, waiter) => {
                    // What is in memory by now may be from the tier.
                    let look = (wanted != Wanted::OfSource).then(|| self.second_look(hash, key));
                    if let Some(hit) = look.flatten() {
                        leader.withdraw();
                        return Ok(hit.into());
                    }
                    leader.span = self.miss_of(cause, hash);
                    match load.take().map_or_else(|| self.load_of(&owned), Ok) {
                        Ok(load) => self.spawn_load(leader, load, wanted),
                        Err(error) => leader.land(Err(error), 0, || 0),
                    }
                    (waiter, Outcome::Miss)
                }
            };
            if !heeds {
                waiter.last = None;
            }
            let waits = self.span_of_wait(outcome, hash);
            let waited = self.wait_for_load(hash, key, &mut waiter);
            let landing = match waited.instrument(waits).await {
                Waited::Answered(answer) => return answer,
                Waited::Landed(landing) => landing,
            };
            let Some(landing) = landing else {
                // Its leader has found it in memory.
                match self.held(hash, key) {
                    Ok(hit) if wanted != Wanted::OfSource => return Ok(hit.into()),
                    Ok(_) | Err(_) => continue,
                }
            };
            // Otherwise load again, in the end after this read began.
            if !self.answers(began, &landing) || !wanted.accepts(&landing) {
                continue;
            }
            let outcome = outcome_of(outcome, landing.from);
            let age = self.member().clock.now().saturating_sub(landing.loaded_at);
            return landing.result.map(|value| Lookup::new(value, outcome, age));
        }
    }

    fn recursion(&self) -> Error {
        let message = format!(
            "the loader of cache {:?} reads the key that it loads, or its reads of caches are nested too deeply",
            self.name
        );
        Error::new(ErrorKind::Recursion, message)
    }

    /// Looks into memory again, before a load. No lock of the flights is held: a hit may start a
    /// reload, which takes that lock.
    pub(super) fn second_look<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Option<Hit<V>>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let _under_the_lock =
            without(Mechanism::SecondLookOutsideTheLock).then(|| self.flights.hold(hash));
        self.held(hash, key).ok()
    }

    pub(super) fn began(&self, hash: u64) -> Began {
        let member = self.member();
        Began {
            verified_at: self.store.verified_at(hash),
            stamp: member.stamps.token(),
            at: member.clock.now(),
        }
    }

    /// Whether a load answers a read that may have joined it.
    ///
    /// Not if it began before an invalidation that the read must see (its tags were unknown when the
    /// read joined). Not either if it began so long before the read that the promise was over: it
    /// may run for `load_timeout`, and while the bus is down no event
    /// arrives. A later verification does not make it fresh: the event that it
    /// proves applied may be the one that this load has missed.
    pub(super) fn answers(&self, began: Began, landing: &Landing<V>) -> bool {
        if landing.result.is_err() {
            return true;
        }
        let fresh_as_of = landing.fresh_as_of.max(began.verified_at);
        landing.answers(began.stamp) && self.store.is_fresh(fresh_as_of, began.at)
    }

    /// Why a read has to load; `None` if a verification may yet make it a hit. Ask once a read: it
    /// observes how long an entry was past its TTL.
    pub(crate) fn cause(&self, missing: NotServed) -> Option<Miss> {
        match missing {
            NotServed::Missing(cause) => Some(cause),
            NotServed::Expired { overage } => {
                let overage = Duration::from_nanos(overage);
                self.metrics.expiry_overage.observe(overage);
                Some(Miss::Expired)
            }
            NotServed::Unverified | NotServed::Unconfirmed => None,
        }
    }

    /// The cache's own load of a key. Its loader is given what is held when it begins.
    pub(crate) fn load_of(self: &Arc<Self>, key: &K) -> Result<Load<V>, Error> {
        if let Some(loader) = &self.loader {
            let (cache, of) = (self.clone(), key.clone());
            let look = move || cache.store.held(of.digest()?, &of);
            if self.primary.is_some() {
                return Ok(self.load_of_primary_or(loader.clone(), key.clone(), Box::new(look)));
            }
            return Ok(loader(key.clone(), Box::new(look)));
        }
        self.batch_of_one(key)
    }

    /// As [`load_of`](Self::load_of), of a loader that is given nothing: what the source says by itself.
    pub(crate) fn load_of_source(&self, key: &K) -> Result<Load<V>, Error> {
        let primary = self.primary.as_ref().map(|primary| &primary.load);
        match primary.or(self.loader.as_ref()) {
            Some(loader) => Ok(loader(key.clone(), Box::new(|| None))),
            None => self.batch_of_one(key),
        }
    }

    fn batch_of_one(&self, key: &K) -> Result<Load<V>, Error> {
        let Some(load) = self.batch_loader.clone() else {
            let message = format!("cache {:?} has no loader; use `get_with`", self.name);
            return Err(Error::new(ErrorKind::NoLoader, message));
        };
        let key = key.clone();
        Ok(Box::pin(async move {
            let pairs = load(vec![key.clone()]).await?;
            let mine = pairs.into_iter().find(|(loaded, _)| *loaded == key);
            mine.map_or_else(|| Ok(Loaded::new(None)), |(_, answer)| answer)
        }))
    }

    /// Waits for a verification of the key's lane that makes the entry a hit.
    pub(crate) async fn verified<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Result<Lookup<V>, Miss>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let look = || match self.held(hash, key).map_err(|missing| self.cause(missing)) {
            Ok(hit) => Some(Ok(hit.into())),
            Err(None) if self.store.source_lags(hash) => Some(Err(Miss::Unverified)),
            Err(cause) => cause.map(Err),
        };
        match self.member().wait_verified(hash, look).await {
            Ok(found) => found,
            Err(NotVerified) => Err(Miss::Unverified),
        }
    }

    /// A read that reflects everything that was published before `began`.
    pub(crate) async fn latest<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        began: Nanos,
        load: Option<Load<V>>,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let caught_up = self.caught_up(hash, began).await;
        self.latest_if(caught_up, hash, key, load).await
    }

    /// The rest of [`latest`](Self::latest), once it is known whether everything is applied.
    pub(super) async fn latest_if<Q>(
        self: &Arc<Self>,
        caught_up: Result<(), NotVerified>,
        hash: u64,
        key: &Q,
        mut load: Option<Load<V>>,
    ) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let (missing, wanted) = match caught_up {
            Ok(()) => match self.held(hash, key) {
                Ok(hit) => return Ok(hit.into()),
                Err(missing) => (missing, Wanted::Value),
            },
            Err(NotVerified) => {
                self.store.drop_key(hash);
                (NotServed::Missing(Miss::Unverified), Wanted::OfSource)
            }
        };
        self.miss(hash, key, missing, &mut load, wanted).await
    }

    /// What memory holds of a key, if everything that was published before `began` is applied. Otherwise
    /// nothing counts: no entry, and no load that has begun.
    pub(crate) async fn held_as_of<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        began: Nanos,
    ) -> Option<Hit<V>>
    where
        Q: KeyRef<K> + ?Sized,
    {
        match self.caught_up(hash, began).await {
            Ok(()) => self.held(hash, key).ok(),
            Err(NotVerified) => {
                self.store.drop_key(hash);
                None
            }
        }
    }

    /// Waits until everything that was published to the key's lane before `began` is applied. If that does
    /// not happen, what was published is unknown: no entry, no load that has begun and no value of the tier
    /// counts.
    pub(crate) async fn caught_up(&self, hash: u64, began: Nanos) -> Result<(), NotVerified> {
        let member = self.member();
        let lane = member.stamps.lane(hash);
        // A verification that was sent later proves it.
        let proven = || (lane.verified_at() > began).then_some(());
        member.wait_verified(hash, proven).await
    }
}

/// How a read was answered that led a load or joined one.
pub(crate) fn outcome_of(joined: Outcome, origin: Origin) -> Outcome {
    match (joined, origin) {
        (_, Origin::Expired) => Outcome::Stale,
        (Outcome::Miss, Origin::SharedTier) => Outcome::Tier,
        (joined, _) => joined,
    }
}
