//! The local store: entries in memory, served only under the hit rule.
//!
//! It does no I/O and never awaits. Whatever invalidates, a write of this process or an event of a
//! peer, ends here.

pub(crate) mod entry;
mod ghosts;
mod known;
mod leaving;
pub(crate) mod packed;
pub(crate) mod reaper;
pub(crate) mod refresh;
pub(crate) mod stamps;

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::mem::needs_drop;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache, EntryAction, EntryResult};
use quick_cache::{OptionsBuilder, Weighter};

use crate::contain::Contain;
use crate::metrics::{CacheMetrics, Miss};
use crate::store::entry::{ByHash, ByKey, Entry, Identity, Meta, Stored, Tags, Verdict, judge};
use crate::store::ghosts::{Ghosts, Gone};
use crate::store::known::Known;
use crate::store::leaving::{Hook, Leaving, free};
use crate::store::refresh::Refresh;
use crate::store::stamps::{Lane, Stamp, Stamps};
use crate::sync::{AtomicBool, AtomicU64, Ordering::*};
use crate::time::{Clock, Nanos};
use crate::without::{Mechanism, without};

/// Entries a shard holds at most, so that a sweep never blocks a shard's readers for longer than
/// about 0.2 ms (50 ns an entry).
const SHARD_ENTRIES: usize = 4_096;

/// Fewest entries a shard is made for: quick_cache bounds weight by shard, and small shards evict
/// long before the cache is full.
const MIN_SHARD_ENTRIES: usize = 256;

/// Weight of a full store when bytes are bounded as well as entries.
const FULL: u64 = 1 << 40;

/// "Does not exist" may take this part of the capacity, and of the bytes where those are bounded, so that
/// requests for unknown keys cannot push out what exists.
const ABSENT_SHARE: usize = 10;

/// What a store needs to know of its cache.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    pub(crate) cache: u32,
    pub(crate) capacity: usize,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_staleness: Option<Nanos>,
    /// From when on a hit asks for a reload.
    pub(crate) refresh: Option<Refresh>,
    /// Loads of unknown keys are limited: remember which keys are known.
    pub(crate) remember_known: bool,
    pub(crate) clock: Clock,
    /// Runs what belongs to the user.
    pub(crate) contain: Arc<Contain>,
}

/// How a lookup ended.
pub(crate) enum Found<V> {
    Value {
        value: V,
        age: Nanos,
        refresh: bool,
    },
    Absent {
        age: Nanos,
    },
    /// There is an entry, but nobody has vouched for its lane lately.
    Unverified,
    /// It is past its TTL, by so much; whoever answers the read observes that, once.
    Expired {
        overage: Nanos,
    },
    Missing(Miss),
}

/// What may stand in for a load that failed.
pub(crate) enum PastTtl<V> {
    Value {
        value: V,
        tags: Tags,
        age: Nanos,
        /// It reflects everything published before.
        vouched_at: Nanos,
    },
    /// There is an entry, but nobody has vouched for its lane lately.
    Unverified,
    Nothing,
}

/// How an insert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    Stored,
    /// An invalidation at this stamp came after the load began.
    Discarded(Stamp),
    /// Larger than a shard of the store may hold.
    Oversized,
    /// Another load of the key is being stored at this very moment.
    Busy,
}

pub(crate) struct Store<K, V> {
    values: Cache<Stored<K>, Entry<V>, Weigh, Identity, Hook>,
    /// Known not to exist, apart so that they have a bound of their own.
    absences: Cache<Stored<K>, Entry<()>, Weigh, Identity, Hook>,
    has_absences: AtomicBool,
    /// Keys that have been seen to exist, where somebody asks.
    known: Option<Known>,
    /// No entry expires before this time; lets the reaper sleep.
    next_expiry: AtomicU64,
    weigh: Weigh,
    stamps: Arc<Stamps>,
    /// When the whole cache was last invalidated.
    stamp: AtomicU64,
    shared: Arc<Shared>,
    options: StoreOptions,
    /// Empties the store at its end; a function of a type that does not name the bounds.
    empty: fn(&Self),
}

/// What eviction, which runs inside quick_cache, shares with the store.
struct Shared {
    ghosts: Ghosts,
    bytes: AtomicU64,
    metrics: Arc<CacheMetrics>,
    clock: Clock,
}

impl<K, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Whichever task lets go of the last handle comes here: none may end by it.
impl<K, V> Drop for Store<K, V> {
    fn drop(&mut self) {
        (self.empty)(self);
    }
}

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    pub(crate) fn new(
        options: StoreOptions,
        stamps: Arc<Stamps>,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        let shared = Arc::new(Shared {
            ghosts: Ghosts::new(options.capacity),
            bytes: AtomicU64::new(0),
            metrics,
            clock: options.clock,
        });
        let absent = (options.capacity / ABSENT_SHARE).max(1);
        let absent_bytes = options.max_bytes.map(|bytes| bytes / ABSENT_SHARE as u64);
        let weigh = Weigh {
            capacity: options.capacity,
            max_bytes: options
                .max_bytes
                .map(|bytes| bytes - absent_bytes.unwrap_or(0)),
        };
        Self {
            values: build(weigh.clone(), &shared),
            absences: build(
                Weigh {
                    capacity: absent,
                    max_bytes: absent_bytes,
                },
                &shared,
            ),
            has_absences: AtomicBool::new(false),
            known: options.remember_known.then(|| Known::new(options.capacity)),
            next_expiry: AtomicU64::new(u64::MAX),
            weigh,
            stamps,
            stamp: AtomicU64::new(0),
            shared,
            options,
            empty: Self::empty,
        }
    }

    /// The value, if it may be served now.
    ///
    /// The order matters: the verification first, then the entry, the stamps, the clock.
    /// 1: a lookup reads `verified_at`; 2: an event is applied and its lane verified; 3: the lookup
    /// finds the entry gone. Read the other way round, an entry fetched before 2 would be vouched
    /// for by a verification that came after it.
    #[inline(always)]
    pub(crate) fn lookup<Q>(&self, hash: u64, key: &Q) -> Found<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let lane = self.stamps.lane(hash);
        let verified_at = lane.verified_at();
        let by_key = ByKey { hash, key };
        if let Some(Entry { value, meta }) = self.values.get(&by_key) {
            if self.stamped(lane, &meta) {
                return Found::Missing(self.why_stamped(hash, &meta));
            }
            let now = self.options.clock.now();
            return match self.judge(&meta, verified_at, now) {
                Verdict::Fresh => Found::Value {
                    value,
                    age: now.saturating_sub(meta.loaded_at()),
                    refresh: self.due_for_refresh(&meta, now),
                },
                Verdict::Expired => Found::Expired {
                    overage: now.saturating_sub(meta.expires_at()),
                },
                Verdict::Unverified => Found::Unverified,
            };
        }
        if self.has_absences.load(Relaxed)
            && let Some(Entry { meta, .. }) = self.absences.get(&by_key)
        {
            return self.lookup_absent(hash, &meta, verified_at);
        }
        self.gone(hash)
    }

    fn lookup_absent(&self, hash: u64, meta: &Meta, verified_at: Nanos) -> Found<V> {
        if self.stamped(self.stamps.lane(hash), meta) {
            return Found::Missing(self.why_stamped(hash, meta));
        }
        let now = self.options.clock.now();
        match self.judge(meta, verified_at, now) {
            Verdict::Fresh => Found::Absent {
                age: now.saturating_sub(meta.loaded_at()),
            },
            Verdict::Expired => Found::Missing(Miss::Negative),
            Verdict::Unverified => Found::Unverified,
        }
    }

    #[inline]
    fn judge(&self, meta: &Meta, verified_at: Nanos, now: Nanos) -> Verdict {
        let vouched_for = meta.loaded_at().max(verified_at);
        judge(
            meta.expires_at(),
            vouched_for,
            self.options.max_staleness,
            now,
        )
    }

    /// Whether its tags, cache or lane were invalidated after its load began. (Its key was not, or
    /// it would have been removed.)
    #[inline]
    fn stamped(&self, lane: &Lane, meta: &Meta) -> bool {
        self.stamps.fenced(lane) > meta.token()
            || self.stamp.load(Acquire) > meta.token()
            || self.stamps.newest_tag(self.options.cache, meta.tags()) > meta.token()
    }

    #[cold]
    fn why_stamped(&self, hash: u64, meta: &Meta) -> Miss {
        if self.stamps.fenced(self.stamps.lane(hash)) > meta.token() {
            Miss::Fenced
        } else {
            Miss::Invalidated
        }
    }

    #[cold]
    fn gone(&self, hash: u64) -> Found<V> {
        let Some((why, at)) = self.shared.ghosts.take(hash) else {
            return Found::Missing(Miss::Cold);
        };
        match why {
            Gone::Expired => Found::Expired {
                overage: self.options.clock.now().saturating_sub(at),
            },
            Gone::Invalidated => Found::Missing(Miss::Invalidated),
            Gone::Evicted => Found::Missing(Miss::Evicted),
            Gone::Fenced => Found::Missing(Miss::Fenced),
            Gone::Negative => Found::Missing(Miss::Negative),
        }
    }

    #[inline]
    fn due_for_refresh(&self, meta: &Meta, now: Nanos) -> bool {
        let refresh = self.options.refresh.as_ref();
        refresh.is_some_and(|refresh| refresh.is_due(meta.loaded_at(), meta.expires_at(), now))
    }

    /// Whether the promise lets what was true at `vouched_for` be served at `now`.
    pub(crate) fn vouches(&self, vouched_for: Nanos, now: Nanos) -> bool {
        let age = now.saturating_sub(vouched_for);
        self.options.max_staleness.is_none_or(|bound| age <= bound)
    }

    /// The newest invalidation that concerns a key with these tags.
    pub(crate) fn newest(&self, hash: u64, tags: &[u64]) -> Stamp {
        let key = self.stamps.key(self.options.cache, hash).load(SeqCst);
        let lane = if without(Mechanism::FenceOfLoadsInFlight) {
            0
        } else {
            self.stamps.fenced(self.stamps.lane(hash))
        };
        let cache = self.stamp.load(SeqCst);
        key.max(lane).max(cache).max(self.newest_tag(tags))
    }

    /// The newest invalidation of these tags.
    pub(crate) fn newest_tag(&self, tags: &[u64]) -> Stamp {
        self.stamps.newest_tag(self.options.cache, tags)
    }

    /// The invalidation that came after the load began.
    fn outdated(&self, hash: u64, meta: &Meta) -> Option<Stamp> {
        let newest = self.newest(hash, meta.tags());
        (newest > meta.token() && !without(Mechanism::TokenAtInsert)).then_some(newest)
    }

    /// Stores what a load returned, unless it was invalidated since the load began.
    ///
    /// Atomic against [`invalidate_key`](Self::invalidate_key) without a lock of ours: the
    /// placeholder comes first, then the check, then the value takes the placeholder's place.
    /// 1: an invalidation raises the stamp and then removes the hash. If its stamp precedes our
    /// check, the check refuses. 2: if it follows, so does its removal, and that detaches the
    /// placeholder (the insert fails) or removes the value.
    pub(crate) fn insert(&self, stored: &Stored<K>, value: Option<V>, meta: Meta) -> Insertion {
        if let (Some(known), Some(_)) = (&self.known, &value) {
            known.put(stored.hash);
        }
        // Before anything is touched: a load that lost must not take a newer one's value with it.
        if let Some(newest) = self.outdated(stored.hash, &meta) {
            return Insertion::Discarded(newest);
        }
        self.next_expiry.fetch_min(meta.expires_at(), Relaxed);
        match value {
            Some(value) => {
                let entry = Entry { value, meta };
                if !self.values_hold(&entry.meta) {
                    self.drop_hash(stored.hash);
                    return Insertion::Oversized;
                }
                let inserted = self.place(&self.values, stored, entry);
                if inserted == Insertion::Stored && self.has_absences.load(SeqCst) {
                    self.take(&self.absences, stored.hash);
                }
                inserted
            }
            None => {
                // SeqCst with the stamp: see `drop_hash`.
                self.has_absences.store(true, SeqCst);
                self.take(&self.values, stored.hash);
                let inserted = self.place(&self.absences, stored, Entry { value: (), meta });
                // Not if it was discarded: whoever invalidated the key meanwhile may have made it.
                if let (Some(known), Insertion::Stored) = (&self.known, inserted) {
                    known.forget(stored.hash);
                }
                inserted
            }
        }
    }

    /// Runs [`put`](Self::put), in which a key's `Clone` and `Eq` and a value's `Clone` are called,
    /// and drops what makes way when no lock is held.
    fn place<T: Clone>(
        &self,
        cache: &Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook>,
        stored: &Stored<K>,
        entry: Entry<T>,
    ) -> Insertion {
        let (contain, packed) = (&self.options.contain, entry.meta.packed);
        let (mut leaving, mut counted) = (Leaving::default(), false);
        let put = contain.run("a key or a value that is stored", || {
            self.put(cache, stored, entry, &mut leaving, &mut counted)
        });
        let inserted = put.unwrap_or_else(|| {
            // Whether it was stored is unknown, so it is not to be.
            let ours = |held: &Entry<T>| held.meta.packed == packed;
            if let Some((stored, entry)) = cache.remove_if(&ByHash(stored.hash), ours) {
                leaving.add(stored, entry);
            }
            if counted {
                self.shared.bytes.fetch_sub(packed.bytes(), Relaxed);
            }
            Insertion::Busy
        });
        leaving.free(contain);
        inserted
    }

    fn put<T: Clone>(
        &self,
        cache: &Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook>,
        stored: &Stored<K>,
        entry: Entry<T>,
        leaving: &mut Leaving<K, T>,
        counted: &mut bool,
    ) -> Insertion {
        // What is replaced keeps its key, so another key with the same hash makes way first: in its
        // place our value would be served under its name.
        let replace = |held: &Stored<K>, _: &mut Entry<T>| {
            if held.key == stored.key {
                EntryAction::<Infallible>::ReplaceWithGuard
            } else {
                EntryAction::Remove
            }
        };
        let mut placed = cache.entry(stored, Some(Duration::ZERO), replace);
        if let EntryResult::Removed(other, entry) = placed {
            self.subtract(&entry.meta);
            leaving.add(other, entry);
            placed = cache.entry(stored, Some(Duration::ZERO), replace);
        }
        let guard = match placed {
            EntryResult::Vacant(guard) => guard,
            EntryResult::Replaced(guard, old) => {
                self.subtract(&old.meta);
                leaving.replaces(old);
                guard
            }
            EntryResult::Removed(other, entry) => {
                self.subtract(&entry.meta);
                leaving.add(other, entry);
                return Insertion::Busy;
            }
            EntryResult::Retained(_) | EntryResult::Timeout => return Insertion::Busy,
        };
        if let Some(newest) = self.outdated(stored.hash, &entry.meta) {
            return Insertion::Discarded(newest);
        }
        // Counted first: an eviction that takes it out again at once must find it counted.
        let bytes = entry.meta.bytes();
        self.shared.bytes.fetch_add(bytes, Relaxed);
        *counted = true;
        match guard.insert_with_lifecycle(entry, leaving) {
            Ok(()) => Insertion::Stored,
            Err(entry) => {
                self.subtract(&entry.meta);
                *counted = false;
                match self.newest(stored.hash, entry.meta.tags()) {
                    newest if newest > entry.meta.token() => Insertion::Discarded(newest),
                    _ => Insertion::Busy,
                }
            }
        }
    }

    /// quick_cache drops what is heavier than a shard, and the old value with it, without a word.
    fn values_hold(&self, meta: &Meta) -> bool {
        let weight = self.weigh.of(meta);
        weight <= self.values.shard_capacity() / 10 * 9 || weight <= 1
    }

    /// An entry that is past its TTL but nothing else: what may be served when its loader fails.
    pub(crate) fn past_ttl<Q>(&self, hash: u64, key: &Q, window: Nanos) -> PastTtl<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let lane = self.stamps.lane(hash);
        let verified_at = lane.verified_at();
        let Some(Entry { value, meta }) = self.values.peek(&ByKey { hash, key }) else {
            return PastTtl::Nothing;
        };
        if meta.hard_ttl() || self.stamped(lane, &meta) {
            return PastTtl::Nothing;
        }
        let now = self.options.clock.now();
        let expires_at = meta.expires_at().saturating_add(window);
        let vouched_for = meta.loaded_at().max(verified_at);
        match judge(expires_at, vouched_for, self.options.max_staleness, now) {
            Verdict::Fresh => PastTtl::Value {
                value,
                age: now.saturating_sub(meta.loaded_at()),
                vouched_at: vouched_for,
                tags: meta.tags,
            },
            Verdict::Unverified => PastTtl::Unverified,
            Verdict::Expired => PastTtl::Nothing,
        }
    }

    /// Whether anything in memory says that the key exists, or did: an entry, though it may not be
    /// served; a value that was loaded once; or an invalidation, which whoever creates it sends.
    pub(crate) fn is_known<Q>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let remembered = self.known.as_ref().is_none_or(|known| known.has(hash));
        remembered || self.values.peek(&ByKey { hash, key }).is_some()
    }

    /// Drops a key that somebody wrote; whether there was an entry.
    pub(crate) fn invalidate_key(&self, hash: u64) -> bool {
        if let Some(known) = &self.known {
            known.put(hash);
        }
        self.drop_key(hash)
    }

    /// Drops a key, its load in flight included; whether there was an entry.
    pub(crate) fn drop_key(&self, hash: u64) -> bool {
        let now = self.stamps.tick();
        self.stamps
            .key(self.options.cache, hash)
            .fetch_max(now, SeqCst);
        let dropped = self.drop_hash(hash);
        if dropped {
            self.shared.ghosts.put(hash, Gone::Invalidated, 0);
        }
        dropped
    }

    /// 1: an insert of an absence sets `has_absences`, then checks the stamp; 2: an invalidation
    /// raises the stamp, then reads `has_absences`. All four are SeqCst, so one of the two sees
    /// the other.
    fn drop_hash(&self, hash: u64) -> bool {
        let value = self.take(&self.values, hash);
        let absence = self.has_absences.load(SeqCst) && self.take(&self.absences, hash);
        value || absence
    }

    /// Takes a hash out, and drops what it held when no lock is held; whether there was an entry.
    fn take<T: Clone>(
        &self,
        cache: &Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook>,
        hash: u64,
    ) -> bool {
        let contain = &self.options.contain;
        // A placeholder's key is dropped in there.
        let taken = contain.run("the drop of a key", || cache.remove(&ByHash(hash)));
        let Some((stored, entry)) = taken.flatten() else {
            return false;
        };
        self.subtract(&entry.meta);
        free(contain, stored, entry);
        true
    }

    /// Hands out entry by entry, so that a drop that panics keeps no other one from its own.
    fn empty(&self) {
        if needs_drop::<K>() || needs_drop::<V>() {
            for (stored, entry) in self.values.drain() {
                free(&self.options.contain, stored, entry);
            }
            for (stored, entry) in self.absences.drain() {
                free(&self.options.contain, stored, entry);
            }
        }
    }

    /// Drops every entry with this tag, in O(1); they leave memory when met or reaped.
    pub(crate) fn invalidate_tag(&self, tag: u64) {
        let now = self.stamps.tick();
        self.stamps
            .tag(self.options.cache, tag)
            .fetch_max(now, SeqCst);
    }

    /// Drops every entry, in O(1); they leave memory when met or reaped.
    pub(crate) fn invalidate_all(&self) {
        let now = self.stamps.tick();
        self.stamp.fetch_max(now, SeqCst);
    }

    /// Nothing is stored from now on.
    pub(crate) fn retire(&self) {
        self.stamp.fetch_max(Stamp::MAX, SeqCst);
    }

    /// Entries held, those no longer served included.
    pub(crate) fn len(&self) -> usize {
        self.values.len() + self.absences.len()
    }

    /// Bytes held, as the weigher says. After a panic of the user's code an entry may have been taken
    /// off twice.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Relaxed).cast_signed().max(0) as u64
    }

    fn subtract(&self, meta: &Meta) {
        self.shared.bytes.fetch_sub(meta.bytes(), Relaxed);
    }
}

fn build<K: Eq, T: Clone>(
    weigh: Weigh,
    shared: &Arc<Shared>,
) -> Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook> {
    let cores = std::thread::available_parallelism().map_or(4, usize::from);
    let wanted = (cores * 4)
        .next_power_of_two()
        .max(weigh.capacity / SHARD_ENTRIES);
    let most = (weigh.capacity / MIN_SHARD_ENTRIES).max(1);
    let mut options = OptionsBuilder::new();
    options
        .shards(wanted.min(most).next_power_of_two().min(1_024))
        .estimated_items_capacity(weigh.capacity)
        .weight_capacity(weigh.full());
    let options = options
        .build()
        .expect("every option that has no default is set");
    Cache::with_options(options, weigh, Identity, Hook(shared.clone()))
}

/// Bounds entries and bytes by one weight: whichever of the two takes more of its bound.
#[derive(Clone, Debug)]
struct Weigh {
    capacity: usize,
    max_bytes: Option<u64>,
}

impl Weigh {
    fn full(&self) -> u64 {
        if self.max_bytes.is_some() {
            FULL
        } else {
            self.capacity as u64
        }
    }

    fn of(&self, meta: &Meta) -> u64 {
        let Some(max_bytes) = self.max_bytes else {
            return 1;
        };
        let by_count = FULL / self.capacity as u64;
        let by_bytes = u128::from(meta.bytes()) * u128::from(FULL) / u128::from(max_bytes.max(1));
        by_count
            .max(u64::try_from(by_bytes).unwrap_or(FULL))
            .clamp(1, FULL)
    }
}

impl<K, T> Weighter<Stored<K>, Entry<T>> for Weigh {
    fn weight(&self, _: &Stored<K>, entry: &Entry<T>) -> u64 {
        self.of(&entry.meta)
    }
}
