//! The local store: entries in memory, served only under the hit rule.
//!
//! It does no I/O and never awaits. Whatever invalidates, a write of this process or an event of a
//! peer, ends here.

mod drops;
pub(crate) mod entry;
mod eviction;
pub(crate) mod explain;
mod fallback;
mod ghosts;
mod known;
mod leaving;
pub(crate) mod outcome;
pub(crate) mod packed;
pub(crate) mod reaper;
pub(crate) mod refresh;
pub(crate) mod source;
pub(crate) mod stamps;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{EntryAction, EntryResult};

use crate::key::reference::KeyRef;
use crate::metrics::{CacheMetrics, Miss};
use crate::mutants::{Mechanism, without};
use crate::store::entry::{ByHash, ByKey, Entry, Meta, Stored, Tags, Verdict, judge};
use crate::store::eviction::{Entries, Weigh, build};
use crate::store::ghosts::{Ghosts, Gone};
use crate::store::known::Known;
use crate::store::leaving::{EvictionState, Leaving};
pub(crate) use crate::store::outcome::{Found, Insertion, NotServed, StoreOptions};
use crate::store::packed::Packed;
use crate::store::source::Proof;
use crate::store::stamps::{Freshness, Stamp, Stamps};
use crate::sync::{AtomicBool, AtomicU64, Ordering::*};
use crate::time::Nanos;

/// "Does not exist" has entries of its own, so that requests for unknown keys cannot push out what exists, and
/// may take this part of the bytes where those are bounded.
const ABSENT_SHARE: u64 = 10;

/// A lookup that a read makes, in place of one that leaves no trace.
const READ: bool = false;

pub(crate) struct Store<K, V> {
    values: Entries<K, V>,
    /// Known not to exist, apart so that they have a bound of their own.
    absences: Entries<K, ()>,
    has_absences: AtomicBool,
    /// Keys that have been seen to exist, if an option asks for them.
    known: Option<Known>,
    /// No entry expires before this time; lets the reaper sleep.
    next_expiry: AtomicU64,
    weigh: Weigh,
    stamps: Arc<Stamps>,
    /// When the whole cache was last invalidated.
    stamp: AtomicU64,
    /// The stamp of the last invalidation of any tag.
    newest_tag: AtomicU64,
    evicted: Arc<EvictionState>,
    options: StoreOptions,
    /// Empties the store at its end; a function of a type that does not name the bounds.
    empty: fn(&Self),
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
        let evicted = Arc::new(EvictionState {
            ghosts: Ghosts::new(options.capacity),
            bytes: AtomicU64::new(0),
            metrics,
            clock: options.clock,
        });
        let absent_bytes = options.max_bytes.map(|bytes| bytes / ABSENT_SHARE);
        let weigh = Weigh {
            capacity: options.capacity,
            max_bytes: options
                .max_bytes
                .map(|bytes| bytes - absent_bytes.unwrap_or(0)),
        };
        Self {
            values: build(weigh.clone(), &evicted),
            absences: build(
                Weigh {
                    capacity: options.negative_capacity,
                    max_bytes: absent_bytes,
                },
                &evicted,
            ),
            has_absences: AtomicBool::new(false),
            known: options.remember_known.then(|| Known::new(options.capacity)),
            next_expiry: AtomicU64::new(u64::MAX),
            weigh,
            stamps,
            stamp: AtomicU64::new(0),
            newest_tag: AtomicU64::new(0),
            evicted,
            options,
            empty: Self::empty,
        }
    }

    /// The value, if it may be served now.
    ///
    /// The order matters: the verification first, then the entry, the stamps, the clock.
    /// 1: a lookup reads `verified_at`; 2: an event is applied and its lane verified; 3: the lookup
    /// finds the entry gone. Read the other way round, an entry fetched before 2 would be proven fresh
    /// for by a verification that came after it.
    #[inline(always)]
    pub(crate) fn lookup<Q>(&self, hash: u64, key: &Q) -> Result<Found<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        if self.options.source.is_some() {
            return self.lookup_of_source(hash, key);
        }
        let lane = self.stamps.lane(hash);
        self.lookup_as_of::<Q, READ>(hash, key, lane, lane.verified_at())
    }

    /// Apart, so that the way of a cache without a source stays as short as it is.
    #[inline(never)]
    fn lookup_of_source<Q>(&self, hash: u64, key: &Q) -> Result<Found<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.lookup_as_of::<Q, READ>(hash, key, self.stamps.lane(hash), self.verified_at(hash))
    }

    /// The hit rule. With `LOOK` it leaves no trace: the entry does not count as used, and the cause of a miss is not
    /// forgotten.
    #[inline(always)]
    fn lookup_as_of<Q, const LOOK: bool>(
        &self,
        hash: u64,
        key: &Q,
        lane: &Freshness,
        verified_at: Nanos,
    ) -> Result<Found<V>, NotServed>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let by_key = ByKey { hash, key };
        // Asked in the condition: bound to a name before, what is found would be moved, which takes 8 instructions.
        if let Some(Entry { value, meta }) = match LOOK {
            true => self.values.peek(&by_key),
            false => self.values.get(&by_key),
        } {
            // The tags end before the ways part: dropped on each way out, they would join the ways again,
            // and the answer would be written to memory only to be distinguished a second time.
            let Meta { packed, tags } = meta;
            let stamped = self.stamped(lane, packed.token(), &tags);
            drop(tags);
            if stamped {
                return Err(NotServed::Missing(self.why_stamped(hash, packed.token())));
            }
            let now = self.options.clock.now();
            return match self.judge(packed, verified_at, now) {
                Verdict::Fresh => Ok(Found {
                    value: Some(value),
                    age: now.saturating_sub(packed.loaded_at()),
                    refresh: self.due_for_refresh(packed, now),
                }),
                Verdict::Expired => Err(NotServed::Expired {
                    overage: now.saturating_sub(packed.expires_at()),
                }),
                Verdict::Unverified => Err(NotServed::Unverified),
            };
        }
        if self.has_absences.load(Relaxed)
            && let Some(Entry { meta, .. }) = match LOOK {
                true => self.absences.peek(&by_key),
                false => self.absences.get(&by_key),
            }
        {
            return Ok(Found {
                value: None,
                age: self.absent_for(hash, &meta, verified_at)?,
                refresh: false,
            });
        }
        Err(self.gone::<LOOK>(hash))
    }

    /// Up to when everything is applied that this cache's promise is about: what was published, or what was
    /// committed in its source.
    pub(crate) fn verified_at(&self, hash: u64) -> Nanos {
        match &self.options.source {
            None => self.stamps.lane(hash).verified_at(),
            Some(source) => source.verified_at(hash),
        }
    }

    /// Whether the lane is verified and the source is not: the next verification proves as little, so a read that
    /// waits for it waits in vain.
    pub(crate) fn source_lags(&self, hash: u64) -> bool {
        let now = self.options.clock.now();
        self.options.source.as_ref().is_some_and(|source| {
            let published = self.stamps.lane(hash).verified_at();
            self.is_fresh(published, now) && !self.is_fresh(source.verified_at(hash), now)
        })
    }

    /// The newest invalidation that may concern a key whose tags are unknown.
    pub(crate) fn newest_of_any(&self, hash: u64) -> Stamp {
        self.newest(hash, &[]).max(self.newest_tag.load(SeqCst))
    }

    /// Whether the cache names a source.
    pub(crate) fn has_source(&self) -> bool {
        self.options.source.is_some()
    }

    /// The moment at which what is read from a replica at this place counts as read, where one is known.
    pub(crate) fn as_of(&self, hash: u64, place: u64) -> Option<Proof> {
        self.options.source.as_ref()?.as_of(hash, place)
    }

    /// The age of a remembered absence, if that may be served.
    fn absent_for(&self, hash: u64, meta: &Meta, verified_at: Nanos) -> Result<Nanos, NotServed> {
        let token = meta.token();
        if self.stamped(self.stamps.lane(hash), token, &meta.tags) {
            return Err(NotServed::Missing(self.why_stamped(hash, token)));
        }
        let now = self.options.clock.now();
        match self.judge(meta.packed, verified_at, now) {
            Verdict::Fresh => Ok(now.saturating_sub(meta.loaded_at())),
            Verdict::Expired => Err(NotServed::Missing(Miss::Negative)),
            Verdict::Unverified => Err(NotServed::Unverified),
        }
    }

    #[inline]
    fn judge(&self, packed: Packed, verified_at: Nanos, now: Nanos) -> Verdict {
        let fresh_as_of = packed.loaded_at().max(verified_at);
        let expired = packed.expired(now);
        judge(expired, fresh_as_of, self.options.max_staleness, now)
    }

    /// Whether its tags, cache or lane were invalidated after its load began. (Its key was not, or
    /// it would have been removed.)
    #[inline]
    fn stamped(&self, lane: &Freshness, token: Stamp, tags: &Tags) -> bool {
        self.stamps.fenced(lane) > token
            || self.stamp.load(Acquire) > token
            || tags
                .as_ref()
                .is_some_and(|tags| self.newest_tag(tags) > token)
    }

    #[cold]
    fn why_stamped(&self, hash: u64, token: Stamp) -> Miss {
        if self.stamps.fenced(self.stamps.lane(hash)) > token {
            Miss::Fenced
        } else {
            Miss::Invalidated
        }
    }

    #[cold]
    fn gone<const LOOK: bool>(&self, hash: u64) -> NotServed {
        let ghosts = &self.evicted.ghosts;
        let gone = match LOOK {
            true => ghosts.look(hash),
            false => ghosts.take(hash),
        };
        let Some((why, at)) = gone else {
            return NotServed::Missing(Miss::Cold);
        };
        match why {
            Gone::Expired => NotServed::Expired {
                overage: self.options.clock.now().saturating_sub(at),
            },
            Gone::Invalidated => NotServed::Missing(Miss::Invalidated),
            Gone::Evicted => NotServed::Missing(Miss::Evicted),
            Gone::Fenced => NotServed::Missing(Miss::Fenced),
            Gone::Negative => NotServed::Missing(Miss::Negative),
        }
    }

    #[inline]
    fn due_for_refresh(&self, packed: Packed, now: Nanos) -> bool {
        let refresh = self.options.refresh.as_ref();
        refresh.is_some_and(|refresh| refresh.is_due(packed.loaded_at(), packed.expires_at(), now))
    }

    /// Whether the promise lets what was true at `fresh_as_of` be served at `now`.
    pub(crate) fn is_fresh(&self, fresh_as_of: Nanos, now: Nanos) -> bool {
        let age = now.saturating_sub(fresh_as_of);
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
                // Not if it was discarded: the writer that invalidated the key meanwhile may have made it.
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
        cache: &Entries<K, T>,
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
                self.evicted.bytes.fetch_sub(packed.bytes(), Relaxed);
            }
            Insertion::Busy
        });
        leaving.free(contain);
        inserted
    }

    fn put<T: Clone>(
        &self,
        cache: &Entries<K, T>,
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
        self.evicted.bytes.fetch_add(bytes, Relaxed);
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

    pub(super) fn subtract(&self, meta: &Meta) {
        self.evicted.bytes.fetch_sub(meta.bytes(), Relaxed);
    }
}
