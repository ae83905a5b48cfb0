//! Frees the memory of entries that nobody asks for any more.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::store::Store;
use crate::store::entry::Meta;
use crate::store::ghosts::Gone;
use crate::time::Nanos;

/// A sweep may use at most one part in this many of a core, however large the store is.
const DUTY: u32 = 50;

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    /// Drops what is past its TTL (by more than `keep`, for entries that a failing loader may fall
    /// back on) and what an invalidation of its tags, cache or lane has left behind; returns how
    /// many. `retain` blocks one shard at a time.
    pub(crate) fn sweep(&self, now: Nanos, keep: Nanos) -> u64 {
        // Lowered by inserts during the sweep, so that none of them is overlooked.
        self.next_expiry.store(u64::MAX, Relaxed);
        let reaped = Cell::new(0_u64);
        let next = Cell::new(u64::MAX);
        let stays = |hash: u64, meta: &Meta, keep: Nanos, expired: Gone| {
            let gone = if self.stamped(self.stamps.lane(hash), meta) {
                Some(Gone::Fenced)
            } else {
                let keep = if meta.hard_ttl() { 0 } else { keep };
                let until = meta.expires_at().saturating_add(keep);
                next.set(next.get().min(until));
                (now >= until).then_some(expired)
            };
            if let Some(why) = gone {
                reaped.set(reaped.get() + 1);
                self.shared.ghosts.put(hash, why, meta.expires_at());
                self.subtract(meta);
            }
            gone.is_none()
        };
        self.values
            .retain(|stored, entry| stays(stored.hash, &entry.meta, keep, Gone::Expired));
        self.absences
            .retain(|stored, entry| stays(stored.hash, &entry.meta, 0, Gone::Negative));
        self.next_expiry.fetch_min(next.get(), Relaxed);
        reaped.get()
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
