//! Frees the memory of entries that are no longer read.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::mutants::{Mechanism, without};
use crate::store::entry::{ByHash, Entry, Identity, Meta, Stored};
use crate::store::ghosts::Gone;
use crate::store::leaving::{Hook, free};
use crate::store::{Store, Weigh};
use crate::time::Nanos;

/// A sweep may use at most one part in this many of a member, however large the store is.
const DUTY: u32 = 50;

/// The minimum number of entries that a pass looks for. A pass never takes more than an eighth of the
/// store: it notes 8 bytes for each entry, and eight passes go over all.
const PASS: usize = 1_024;

/// The maximum number of passes of one sweep, twice as many as go over all entries: what is invalidated
/// meanwhile is left to the next sweep.
const PASSES: usize = 16;

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    /// Drops what is past its TTL (by more than `keep`, for entries that a failing loader may fall
    /// back on) and what an invalidation of its tags, cache or lane has left behind; returns how
    /// many.
    pub(crate) fn sweep(&self, now: Nanos, keep: Nanos) -> u64 {
        // Lowered by inserts during the sweep, so that none of them is overlooked.
        self.next_expiry.store(u64::MAX, Relaxed);
        self.sweep_part(&self.values, now, keep, Gone::Expired)
            + self.sweep_part(&self.absences, now, 0, Gone::Negative)
    }

    /// A look blocks one shard at a time and drops nothing; entries leave one by one, and are dropped
    /// when no lock is held. 1: the look notes an entry; 2: a load replaces it; 3: its hash is removed
    /// only if what is there now is to leave as well.
    fn sweep_part<T: Clone>(
        &self,
        cache: &Cache<Stored<K>, Entry<T>, Weigh, Identity, Hook>,
        now: Nanos,
        keep: Nanos,
        expired: Gone,
    ) -> u64 {
        let most = (cache.len() / 8).max(PASS);
        let mut reaped = 0;
        for _ in 0..PASSES {
            let (found, next) = (RefCell::new(Vec::new()), Cell::new(u64::MAX));
            cache.retain(|stored, entry| {
                match self.leaves(stored.hash, &entry.meta, now, keep, expired) {
                    Err(until) => next.set(next.get().min(until)),
                    Ok(_) if without(Mechanism::DropsOutsideLocks) => return false,
                    Ok(_) if found.borrow().len() < most => found.borrow_mut().push(stored.hash),
                    Ok(_) => {}
                }
                true
            });
            let found = found.into_inner();
            for hash in &found {
                let mut why = expired;
                let removed = cache.remove_if(&ByHash(*hash), |entry| {
                    let leaves = self.leaves(*hash, &entry.meta, now, keep, expired);
                    why = leaves.unwrap_or(why);
                    leaves.is_ok()
                });
                if let Some((stored, entry)) = removed {
                    reaped += 1;
                    self.evicted.ghosts.put(*hash, why, entry.meta.expires_at());
                    self.subtract(&entry.meta);
                    free(&self.options.contain, stored, entry);
                }
            }
            if found.len() < most {
                self.next_expiry.fetch_min(next.get(), Relaxed);
                return reaped;
            }
        }
        self.next_expiry.fetch_min(now, Relaxed);
        reaped
    }

    /// Returns why an entry leaves now, or the time at which it will.
    fn leaves(
        &self,
        hash: u64,
        meta: &Meta,
        now: Nanos,
        keep: Nanos,
        expired: Gone,
    ) -> Result<Gone, Nanos> {
        if self.stamped(self.stamps.lane(hash), meta.token(), &meta.tags) {
            return Ok(Gone::Fenced);
        }
        // An entry that may no longer be served is kept only for a loader that is given what is held.
        let keep = if meta.hard_ttl() && keep < Nanos::MAX {
            0
        } else {
            keep
        };
        let until = meta.expires_at().saturating_add(keep);
        if now >= until {
            Ok(expired)
        } else {
            Err(until)
        }
    }

    /// Whether a sweep could find anything.
    pub(crate) fn worth_sweeping(&self, now: Nanos, stamps_moved: bool) -> bool {
        stamps_moved || now >= self.next_expiry.load(Relaxed)
    }
}

/// How long to wait after a sweep that took `took`.
pub(crate) fn pause(interval: Duration, took: Duration) -> Duration {
    interval.max(took * DUTY)
}
