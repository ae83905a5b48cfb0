//! Single-flight: at most one load per key at a time in one instance.
//!
//! A flight belongs to no caller: any of them may be cancelled. A read joins only a flight whose
//! load began after every invalidation that the read must see.
//!
//! The error of a load stays in the table for `error_ttl`, so that a source that has just failed is not
//! asked by every reader.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Span;

use crate::cache::failures::{Failed, Failure};
use crate::lock::{Guard, Lock};
use crate::store::entry::Identity;
use crate::store::stamps::Stamp;
use crate::time::Nanos;
use crate::{Error, ErrorKind};

/// Locks the table of flights is spread over; only misses take one.
const SHARDS: usize = 16;

/// How a load ended, for every waiter.
#[derive(Clone, Debug)]
pub(crate) struct Landing<V> {
    pub(crate) result: Result<Option<V>, Error>,
    pub(crate) loaded_at: Nanos,
    /// It reflects everything published before: when its load began, or the verification that covers a
    /// value of the shared tier, or an expired entry that answers instead.
    pub(crate) fresh_as_of: Nanos,
    pub(crate) from: Origin,
    /// What the load saw of the invalidation clock, if what concerns the value was invalidated since.
    /// A read that began later than this may have begun after that, and must not be answered with this
    /// value. (The last stamp says nothing of those before it: a reader between two
    /// invalidations must not be answered either.)
    outdated: Option<Stamp>,
}

/// Where a landing's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Source,
    SharedTier,
    /// The load failed, and an entry past its TTL answers in its place.
    Expired,
}

/// Where the value of a read may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The tier has it, if it counts; or the right to load it for the fleet.
    Value,
    /// As `Value`, but without a claim: others are loaded in the same call.
    ValueOfMany,
    /// A newer value than the one that is due for a refresh.
    Newer,
    /// What the source has now: the tier is not asked.
    OfSource,
}

impl Wanted {
    /// Whether what a flight brought, whose leader may have wanted something else, is what was wanted.
    pub(crate) fn accepts<V>(self, landing: &Landing<V>) -> bool {
        self != Self::OfSource || landing.from != Origin::SharedTier
    }
}

/// A value on its way into memory, from the source or from the tier.
pub(crate) struct Incoming<V> {
    pub(crate) value: Option<V>,
    /// What its load saw of the invalidation clock.
    pub(crate) token: Stamp,
    pub(crate) loaded_at: Nanos,
    /// It reflects everything published before.
    pub(crate) fresh_as_of: Nanos,
    /// From its load on.
    pub(crate) life: Nanos,
    pub(crate) tags: Box<[u64]>,
    pub(crate) own_ttl: bool,
}

impl<V> Landing<V> {
    /// Whether it answers a read that began at `began`; errors answer every read.
    pub(crate) fn answers(&self, began: Stamp) -> bool {
        self.result.is_err() || self.outdated.is_none_or(|token| began <= token)
    }
}

/// How far a flight is. What has landed is shared, so that waiters clone the value without a lock.
enum Progress<V> {
    Flying,
    Landed(Arc<Landing<V>>),
    /// Its leader has found the value in memory: look there.
    Withdrawn,
}

/// A load that is waiting for its turn or under way.
pub(crate) struct Flight<K, V> {
    key: K,
    hash: u64,
    made: Instant,
    /// The error of the load before, if that has failed.
    last: OnceLock<Error>,
    /// What the load saw of the invalidation clock; [`NOT_BEGUN`] while it waits for its turn.
    token: AtomicU64,
    progress: watch::Sender<Progress<V>>,
    /// A load waits for this one, and holds a place that this one may wait for.
    urgent: Notify,
}

/// Joining is always right: the load will begin after the joiner did.
const NOT_BEGUN: Stamp = Stamp::MAX;

/// The flights of one cache.
pub(crate) struct Flights<K, V>([Lock<Table<K, V>>; SHARDS]);

struct Table<K, V> {
    places: HashMap<u64, Place<K, V>, Identity>,
    failed: Failed,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            places: HashMap::default(),
            failed: Failed::default(),
        }
    }
}

/// What the table has of a hash.
enum Place<K, V> {
    Flying(Arc<Flight<K, V>>),
    Failed(Arc<Failure<K>>),
}

impl<K, V> Clone for Place<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Flying(flight) => Self::Flying(flight.clone()),
            Self::Failed(failure) => Self::Failed(failure.clone()),
        }
    }
}

impl<K, V> Place<K, V> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Flying(one), Self::Flying(other)) => Arc::ptr_eq(one, other),
            (Self::Failed(one), Self::Failed(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn failure(&self) -> Option<Arc<Failure<K>>> {
        match self {
            Self::Flying(_) => None,
            Self::Failed(failure) => Some(failure.clone()),
        }
    }

    fn key(&self) -> &K {
        match self {
            Self::Flying(flight) => &flight.key,
            Self::Failed(failure) => &failure.key,
        }
    }

    /// Whether a read joins it that must see all up to `newest`; `now` is nothing for a read that brings its
    /// own load, to which errors of other loads mean nothing.
    fn counts(&self, newest: Stamp, now: Option<Nanos>) -> bool {
        match self {
            Self::Flying(flight) => flight.token.load(SeqCst) >= newest,
            Self::Failed(failure) => failure.counts(newest, now),
        }
    }
}

/// What a read that found nothing would join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnderWay {
    /// A load.
    Load,
    /// The error of a load that has just failed.
    Error,
}

/// What a read that found nothing does next.
pub(crate) enum Joined<K, V> {
    /// Wait for a load that another caller leads.
    Join(Waiter<V>),
    /// The caller leads. It looks into memory once more, and then loads or withdraws.
    ///
    /// The second look closes this race:
    /// 1: this read finds nothing in the store; 2: a load stores its value and leaves the table;
    /// 3: this read finds no flight and would load what was loaded just now.
    Lead(Leader<K, V>, Waiter<V>),
    /// The source has just failed: this is its error.
    Failed(Error),
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Lock::default()))
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

impl<K: Eq + Clone, V> Flights<K, V> {
    /// Joins a flight for `key`, or takes the lead of a new one.
    ///
    /// `newest` is the newest invalidation that concerns the key; a flight that began before it is
    /// left to its waiters and replaced. `now` is nothing for a read that brings its own load.
    ///
    /// Keys are cloned and compared outside the lock, so between two looks at the table another read
    /// may have taken the place; then this one looks again, as often as others do that.
    pub(crate) fn join(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        now: Option<Nanos>,
        newest: impl Fn() -> Stamp,
    ) -> Joined<K, V> {
        let mut mine = None;
        // What another key with the same hash has in the table, which makes way.
        let mut stranger: Option<Place<K, V>> = None;
        loop {
            let met = {
                let mut table = self.table(hash);
                let newest = newest();
                let place = table.places.get(&hash);
                let before = place.and_then(Place::failure);
                let held = place.filter(|place| {
                    let known = stranger.as_ref().is_some_and(|it| it.is(place));
                    !known && place.counts(newest, now)
                });
                match (held.cloned(), mine.take()) {
                    (Some(place), made) => {
                        mine = made;
                        Some(place)
                    }
                    (None, Some((flight, waiter))) => {
                        let flight: Arc<Flight<K, V>> = flight;
                        let mut waiter: Waiter<V> = waiter;
                        let replaced = table.places.insert(hash, Place::Flying(flight.clone()));
                        // Before anything that is the user's runs: 1: the flight is in the table; 2: the end
                        // of a key, or its comparison, panics; 3: reads join a flight that nothing leads.
                        let leader = Leader {
                            flights: self.clone(),
                            flight,
                            landed: false,
                            remembers: now.is_some(),
                            failure: None,
                            span: Span::none(),
                        };
                        drop(table);
                        drop(replaced);
                        let recent = |it: &Arc<Failure<K>>| it.is_recent(newest, now);
                        let before = before.filter(recent).filter(|it| it.key == *key);
                        if let Some(failure) = before {
                            // Who joined before this waits for the load.
                            let _ = leader.flight.last.set(failure.error.clone());
                            waiter.last = Some(failure.error.clone());
                        }
                        return Joined::Lead(leader, waiter);
                    }
                    (None, None) => None,
                }
            };
            match met {
                Some(place) if *place.key() == *key => match place {
                    // In the table when it was looked at: it has landed after this read began, so it
                    // knows of every invalidation that this read must see.
                    Place::Flying(flight) => return Joined::Join(flight.waiter()),
                    Place::Failed(failure) => return Joined::Failed(failure.error.clone()),
                },
                Some(other) => stranger = Some(other),
                None => mine = Some(Flight::new(hash, key.clone())),
            }
        }
    }

    /// As a load that holds a place and waits for the key's: it does not wait for a place itself.
    pub(crate) fn hurry(&self, hash: u64) {
        if let Some(Place::Flying(flight)) = self.table(hash).places.get(&hash) {
            flight.urgent.notify_one();
        }
    }
}

impl<K, V> Flight<K, V> {
    fn new(hash: u64, key: K) -> (Arc<Self>, Waiter<V>) {
        let flight = Self {
            key,
            hash,
            made: Instant::now(),
            last: OnceLock::new(),
            token: AtomicU64::new(NOT_BEGUN),
            progress: watch::Sender::new(Progress::Flying),
            urgent: Notify::new(),
        };
        let mut waiter = flight.waiter();
        waiter.leads = true;
        (Arc::new(flight), waiter)
    }

    fn waiter(&self) -> Waiter<V> {
        Waiter {
            progress: self.progress.subscribe(),
            made: self.made,
            last: self.last.get().cloned(),
            leads: false,
        }
    }
}

impl<K, V> Flights<K, V> {
    /// Whether a load of this hash is under way.
    pub(crate) fn has(&self, hash: u64) -> bool {
        matches!(self.table(hash).places.get(&hash), Some(Place::Flying(_)))
    }

    /// What a read would join now that must see all up to `newest`: a load, or the error of one.
    pub(crate) fn under_way(&self, hash: u64, newest: Stamp, now: Nanos) -> Option<UnderWay> {
        let table = self.table(hash);
        let place = table.places.get(&hash);
        place
            .filter(|place| place.counts(newest, Some(now)))
            .map(|place| match place {
                Place::Flying(_) => UnderWay::Load,
                Place::Failed(_) => UnderWay::Error,
            })
    }

    fn table(&self, hash: u64) -> Guard<'_, Table<K, V>> {
        self.0[hash as usize % SHARDS].lock()
    }

    /// Holds a lock of the table, for a test that takes a mechanism out.
    pub(crate) fn hold(&self, hash: u64) -> Guard<'_, impl Sized + use<K, V>> {
        self.table(hash)
    }
}

/// The side of a flight that loads.
///
/// Dropped without landing, by a panic of the loader or with its runtime, it lands with an error:
/// no waiter waits forever.
pub(crate) struct Leader<K, V> {
    flights: Arc<Flights<K, V>>,
    flight: Arc<Flight<K, V>>,
    landed: bool,
    /// It runs the cache's loader, whose errors are remembered.
    remembers: bool,
    failure: Option<Arc<Failure<K>>>,
    /// The span of the load.
    pub(crate) span: Span,
}

impl<K, V> Leader<K, V> {
    /// Whether an error of this load is one of the cache's loader.
    pub(crate) fn remembers(&self) -> bool {
        self.remembers
    }

    /// What the load saw of the invalidation clock, once it has begun.
    pub(crate) fn token(&self) -> Option<Stamp> {
        let token = self.flight.token.load(SeqCst);
        (token != NOT_BEGUN).then_some(token)
    }

    /// Leaves the load's error in the table when it lands.
    pub(crate) fn remember(&mut self, failure: Failure<K>) {
        self.failure = Some(Arc::new(failure));
    }

    /// Ends when another load, which holds a place, waits for this one.
    pub(crate) async fn urgent(&self) {
        self.flight.urgent.notified().await;
    }

    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    pub(crate) fn hash(&self) -> u64 {
        self.flight.hash
    }

    /// The load begins now, having seen the invalidation clock at `token`.
    pub(crate) fn begin(&self, token: Stamp) {
        self.flight.token.store(token, SeqCst);
    }

    /// Leaves the table: the value is in memory, where waiters look for it.
    pub(crate) fn withdraw(mut self) {
        self.leave();
        self.flight.progress.send_replace(Progress::Withdrawn);
    }

    /// Leaves the table, so that later reads look in the store or load again; then wakes the waiters.
    ///
    /// `newest_tag` is the newest invalidation of the tags that came with the value. (Keys, caches and
    /// lanes were compared on joining.) It is asked after the flight has left the table, which closes
    /// this race:
    /// 1: the value is stored; 2: its tag is invalidated; 3: a read begins, finds the entry stale
    /// and joins this flight, whose tags it cannot know; 4: the flight lands.
    pub(crate) fn land(
        self,
        result: Result<Option<V>, Error>,
        loaded_at: Nanos,
        newest_tag: impl FnOnce() -> Stamp,
    ) {
        let token = self.flight.token.load(SeqCst);
        self.arrive(
            result,
            (loaded_at, loaded_at),
            Origin::Source,
            token,
            newest_tag,
        );
    }

    /// As [`land`](Self::land), with an entry that answers in place of a load which failed: looked up at
    /// `token`, later than the load began. `newest` is the newest invalidation of all that concerns
    /// it:
    /// 1: the entry is looked up; 2: its key is invalidated; 3: a read begins and joins a flight that
    /// never began; 4: the flight lands.
    pub(crate) fn land_stale(
        self,
        value: V,
        (loaded_at, fresh_as_of): (Nanos, Nanos),
        token: Stamp,
        newest: impl FnOnce() -> Stamp,
    ) {
        let at = (loaded_at, fresh_as_of);
        self.arrive(Ok(Some(value)), at, Origin::Expired, token, newest);
    }

    /// As [`land`](Self::land), with a value of the shared tier.
    pub(crate) fn land_from_tier(
        self,
        value: Option<V>,
        loaded_at: Nanos,
        fresh_as_of: Nanos,
        newest_tag: impl FnOnce() -> Stamp,
    ) {
        let at = (loaded_at, loaded_at.max(fresh_as_of));
        let token = self.flight.token.load(SeqCst);
        self.arrive(Ok(value), at, Origin::SharedTier, token, newest_tag);
    }

    fn arrive(
        mut self,
        result: Result<Option<V>, Error>,
        (loaded_at, fresh_as_of): (Nanos, Nanos),
        from: Origin,
        token: Stamp,
        newest: impl FnOnce() -> Stamp,
    ) {
        #[cfg(any(test, feature = "test-util"))]
        crate::window::lands(self.flight.hash);
        self.leave();
        if !self.span.is_disabled() {
            let waiters = self.flight.progress.receiver_count();
            self.span.record("coalesced", waiters.saturating_sub(1));
        }
        let landing = Landing {
            result,
            loaded_at,
            fresh_as_of,
            from,
            outdated: (newest() > token).then_some(token),
        };
        let landed = Progress::Landed(Arc::new(landing));
        self.flight.progress.send_replace(landed);
    }

    /// Leaves the table, or leaves the load's error there, unless a newer flight has taken the place.
    fn leave(&mut self) {
        self.landed = true;
        let hash = self.flight.hash;
        let mut table = self.flights.table(hash);
        let mut left = Vec::new();
        match table.places.entry(hash) {
            Slot::Occupied(mut slot) if slot.get().is(&Place::Flying(self.flight.clone())) => {
                match self.failure.take() {
                    None => left.push(slot.remove()),
                    Some(failure) => {
                        left.push(slot.insert(Place::Failed(failure.clone())));
                        for over in table.failed.enter(hash, &failure) {
                            left.extend(table.forget(over));
                        }
                    }
                }
            }
            _ => {}
        }
        drop(table);
        drop(left);
    }
}

impl<K, V> Table<K, V> {
    /// Takes an error out whose time is over, if it is still there.
    fn forget(&mut self, (until, hash): (Nanos, u64)) -> Option<Place<K, V>> {
        let Slot::Occupied(slot) = self.places.entry(hash) else {
            return None;
        };
        let over = matches!(slot.get(), Place::Failed(failure) if failure.until == until);
        over.then(|| slot.remove())
    }
}

impl<K, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let error = if std::thread::panicking() {
            Error::new(ErrorKind::LoadPanic, "the loader panicked")
        } else {
            Error::closed()
        };
        self.leave();
        let landing = Landing {
            result: Err(error),
            loaded_at: 0,
            fresh_as_of: 0,
            from: Origin::Source,
            outdated: None,
        };
        let landed = Progress::Landed(Arc::new(landing));
        self.flight.progress.send_replace(landed);
    }
}

/// The side of a flight that waits. Dropping it stops nothing.
pub(crate) struct Waiter<V> {
    progress: watch::Receiver<Progress<V>>,
    /// When the flight was made.
    pub(super) made: Instant,
    /// The error of the load before, if that has failed.
    pub(super) last: Option<Error>,
    /// It waits for its own load.
    pub(super) leads: bool,
}

impl<V: Clone> Waiter<V> {
    /// Waits for the flight's end; `None` if the value is to be looked for in memory.
    pub(crate) async fn landing(&mut self) -> Option<Landing<V>> {
        let landed = {
            let flying = |progress: &Progress<V>| matches!(progress, Progress::Flying);
            match self
                .progress
                .wait_for(|progress| !flying(progress))
                .await
                .as_deref()
            {
                Ok(Progress::Landed(landing)) => Some(landing.clone()),
                // An error cannot happen while `Leader` lands on drop; to look again is still right.
                Ok(Progress::Withdrawn | Progress::Flying) | Err(_) => None,
            }
        };
        // Outside the channel's lock: the clone of the value is the program's own code.
        landed.map(Arc::unwrap_or_clone)
    }
}

#[cfg(test)]
mod tests;
