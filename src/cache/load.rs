//! One load: its turn, its token, and what becomes of its value.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::{Instrument, Span};

use crate::cache::bucket::{Loan, give_back};
use crate::cache::flight::{Incoming, Leader, Wanted};
use crate::cache::from_tier::{FromTier, Slot};
use crate::cache::nested::{self, Chain};
use crate::cache::state::CacheState;
use crate::coherence::member::Phase;
#[cfg(feature = "shared")]
use crate::contain::contained;
use crate::key::canonical;
use crate::loader::{Load, Loaded};
use crate::metrics::{CacheMetrics, LoadOutcome};
use crate::mutants::{Mechanism, without};
use crate::store::Insertion;
use crate::store::entry::{Meta, Stored};
use crate::store::packed::Packed;
use crate::time::{Clock, Nanos, nanos};
use crate::{BoxError, Error, ErrorKind, Key};

/// What a remembered absence takes beyond its key.
const ABSENCE: usize = 64;

/// How many bytes a key takes, as far as is known: its canonical ones.
pub(crate) fn length(key: &impl Key) -> usize {
    canonical(key).map_or(0, |bytes| bytes.len())
}

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts a load, detached from the read that asked for it.
    pub(crate) fn spawn_load(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        load: Load<V>,
        wanted: Wanted,
    ) {
        let (cache, runtime) = (self.clone(), self.member().runtime.clone());
        let waits = nested::current();
        let span = leader.span.clone();
        if self.has_tier && wanted != Wanted::OfSource {
            self.when_tier_is_free(move |slot| {
                let load = cache.run_load(leader, load, wanted, Some(slot), waits);
                drop(runtime.spawn(load.instrument(span)));
            });
        } else {
            let load = cache.run_load(leader, load, wanted, None, waits);
            drop(runtime.spawn(load.instrument(span)));
        }
    }

    /// One load. What may be in the shared tier is looked for there first.
    pub(super) async fn run_load(
        self: Arc<Self>,
        leader: Leader<K, V>,
        load: Load<V>,
        wanted: Wanted,
        slot: Option<Slot>,
        waits: Option<Chain>,
    ) {
        let mut ticket = None;
        if self.has_tier {
            match self.ask_tier(&leader, wanted, slot).await {
                FromTier::Found(incoming) => return self.complete_from_tier(leader, incoming),
                FromTier::Load(with) => ticket = with,
            }
        }
        let loan = match self.admit(leader.hash(), leader.key()).await {
            Ok(loan) => loan,
            Err(error) => return self.fail(leader, error, LoadOutcome::Limited).await,
        };
        let permit = match self.place_for(&leader, waits.is_some()).await {
            Ok(permit) => permit,
            Err(error) => {
                give_back(loan);
                return self.fail(leader, error, LoadOutcome::Overloaded).await;
            }
        };
        let (token, loaded_at) = self.begin(std::slice::from_ref(&leader));
        let running = InFlight::new(&self, leader.span.clone());
        let load = nested::within(load, (self.id, vec![leader.hash()]), waits);
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
                if let (Landed::Valid, Some((ticket, key, loaded))) = (landed, shared) {
                    self.store_in_tier(&key, ticket, &loaded).await;
                }
            }
            Ok(Err(error)) => {
                let error = self.load_failed(error);
                self.fail(leader, error, LoadOutcome::Error).await;
            }
            Err(_) => {
                self.fail(leader, self.timed_out(), LoadOutcome::Timeout)
                    .await;
            }
        }
    }

    /// A place among `max_loads`. A load for which another one waits has that one's.
    async fn place_for(
        &self,
        leader: &Leader<K, V>,
        nested: bool,
    ) -> Result<Option<SemaphorePermit<'_>>, Error> {
        if nested {
            return Ok(None);
        }
        tokio::select! {
            permit = self.admission.permit(|| length(leader.key())) => permit.map(Some),
            () = leader.urgent() => Ok(None),
        }
    }

    /// Before a load begins: a token if its key is unknown, nothing if it needs none.
    async fn admit(&self, hash: u64, key: &K) -> Result<Option<Loan<'_>>, Error> {
        if !self.admission.limits_unknown() || self.store.is_known(hash, key) {
            return Ok(None);
        }
        self.admission.lend(length(key)).await
    }

    /// Takes the token, and the time, before the loader runs.
    pub(crate) fn begin(&self, leaders: &[Leader<K, V>]) -> (u64, Nanos) {
        let member = self.member();
        let loaded_at = member.clock.now();
        let token = member.stamps.token();
        for leader in leaders {
            leader.begin(token);
        }
        (token, loaded_at)
    }

    pub(crate) fn load_failed(&self, source: BoxError) -> Error {
        let message = format!("the loader of cache {:?} failed", self.name);
        Error::with_source(ErrorKind::Load, message, source)
    }

    pub(crate) fn timed_out(&self) -> Error {
        let after = humantime::format_duration(self.options.load_timeout);
        let message = format!(
            "the loader of cache {:?} did not finish within load_timeout ({after})",
            self.name
        );
        Error::new(ErrorKind::LoadTimeout, message)
    }

    /// Stores what was loaded, unless it was invalidated meanwhile, and wakes the waiters.
    pub(crate) async fn land(
        &self,
        leader: Leader<K, V>,
        loaded: Loaded<V>,
        token: u64,
        loaded_at: Nanos,
    ) -> Landed {
        if let Some(wrong) = self.wrong(&loaded) {
            let message = format!("the loader of cache {:?} returned {wrong}", self.name);
            let error = Error::new(ErrorKind::Load, message);
            self.fail(leader, error, LoadOutcome::Error).await;
            return Landed::Invalid;
        }
        let tags = loaded.tag_hashes();
        let Loaded {
            value, ttl, as_of, ..
        } = loaded;
        let value = value.map(|value| self.given_back(value));
        let outcome = if value.is_some() {
            LoadOutcome::Ok
        } else {
            LoadOutcome::Absent
        };
        self.metrics.loads.note(outcome, &leader.span);
        if self.source_hangs.load(Relaxed) {
            self.source_hangs.store(false, Relaxed);
        }
        let moment = self.moment(leader.hash(), as_of, (token, loaded_at));
        let (token_of_value, read_at) = moment.unwrap_or((token, loaded_at));
        let incoming = Incoming {
            token: token_of_value,
            loaded_at: read_at,
            fresh_as_of: read_at,
            life: self.life(ttl, value.is_some()),
            tags,
            own_ttl: ttl.is_some(),
            value,
        };
        let kept = moment.map(|_| self.keep(&leader, &incoming));
        // The shared tier has no place for the age of what a replica has.
        let landed = kept.filter(|_| as_of.is_none()).unwrap_or(Landed::Invalid);
        let Incoming { value, tags, .. } = incoming;
        leader.land(Ok(value), loaded_at, || self.store.newest_tag(&tags));
        landed
    }

    /// What every other instance would get for a loaded value.
    #[cfg(feature = "shared")]
    fn given_back(&self, value: V) -> V {
        let Some(codec) = &self.codec else {
            return value;
        };
        // A projection that panics stores nothing, so no other instance gets anything.
        contained(|| codec.given_back(&value))
            .flatten()
            .unwrap_or(value)
    }

    #[cfg(not(feature = "shared"))]
    fn given_back(&self, value: V) -> V {
        value
    }

    /// Stores what the shared tier had, unless it was invalidated meanwhile, and wakes the waiters.
    pub(crate) fn complete_from_tier(&self, leader: Leader<K, V>, incoming: Incoming<V>) {
        self.keep(&leader, &incoming);
        let Incoming {
            value,
            loaded_at,
            fresh_as_of,
            tags,
            ..
        } = incoming;
        leader.land_from_tier(value, loaded_at, fresh_as_of, || {
            self.store.newest_tag(&tags)
        });
    }

    fn keep(&self, leader: &Leader<K, V>, incoming: &Incoming<V>) -> Landed {
        let value = &incoming.value;
        let tags = 8 * incoming.tags.len() as u64;
        let bytes = match (&self.weigher, value) {
            (Some(weigh), Some(value)) => weigh(leader.key(), value).saturating_add(tags),
            (Some(_), None) => (length(leader.key()) + ABSENCE) as u64 + tags,
            (None, _) => 0,
        };
        let token = self.token_to_store(leader.hash(), &incoming.tags, incoming.token);
        let meta = Meta {
            packed: Packed::new(
                token,
                incoming.loaded_at,
                incoming.life,
                bytes,
                incoming.own_ttl,
            ),
            tags: (!incoming.tags.is_empty()).then(|| Arc::new(incoming.tags.clone())),
        };
        // After shutdown no invalidation arrives, so nothing is stored.
        if self.member().phase() == Phase::Closed {
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
            Insertion::Oversized => self.note_oversized(bytes),
        }
        Landed::Valid
    }

    /// Served, not stored: said once, for it is loaded at each read.
    fn note_oversized(&self, bytes: u64) {
        if self.metrics.oversized.get() == 0 {
            tracing::warn!(
                instance = %self.member().name(),
                cache = self.name,
                bytes,
                "a value is too large to be stored, so each read loads it; further ones are counted \
                 (unstale_oversized_total). Raise max_bytes, of which a fifth fits"
            );
        }
        self.metrics.oversized.inc();
    }

    /// A load's token, unless a test asks what happens where fences spare loads in flight.
    fn token_to_store(&self, hash: u64, tags: &[u64], token: u64) -> u64 {
        if without(Mechanism::FenceOfLoadsInFlight) && self.store.newest(hash, tags) <= token {
            return self.member().stamps.token();
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
}

/// Whether what was loaded still counted when it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landed {
    Valid,
    /// It was invalidated meanwhile, comes from a replica, cannot be stored at all, or invalidations no longer arrive.
    /// The shared tier does not get it.
    Invalid,
}

/// Counts a load as running for as long as it lives, and then how long that was.
pub(crate) struct InFlight<'a> {
    metrics: &'a CacheMetrics,
    clock: Clock,
    /// To the nanosecond: loads are often faster than a step of the coarse clock.
    began: Nanos,
    span: Span,
}

impl<'a> InFlight<'a> {
    pub(crate) fn new<K, V>(cache: &'a CacheState<K, V>, span: Span) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let (metrics, clock) = (&*cache.metrics, cache.member().clock);
        metrics.loads_in_flight.inc();
        Self {
            metrics,
            clock,
            began: clock.precise(),
            span,
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
            self.metrics.loads.note(LoadOutcome::Panic, &self.span);
        }
    }
}
