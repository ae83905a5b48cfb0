//! One entry, and the rule that says whether it may be served.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use quick_cache::Equivalent;

use crate::key::reference::KeyRef;
use crate::store::packed::Packed;
use crate::store::stamps::Stamp;
use crate::time::Nanos;

/// A stored value with its metadata.
#[derive(Clone, Debug)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) meta: Meta,
}

/// What decides whether an entry may be served.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) packed: Packed,
    /// Hashes of its tags. Shared, so that a hit on a tagged entry copies no list.
    pub(crate) tags: Tags,
}

/// Hashes of an entry's tags; most entries have none.
pub(crate) type Tags = Option<Arc<Box<[u64]>>>;

impl Meta {
    /// What its load saw of the invalidation clock.
    #[inline]
    pub(crate) fn token(&self) -> Stamp {
        self.packed.token()
    }

    /// When its load began.
    #[inline]
    pub(crate) fn loaded_at(&self) -> Nanos {
        self.packed.loaded_at()
    }

    #[inline]
    pub(crate) fn expires_at(&self) -> Nanos {
        self.packed.expires_at()
    }

    /// As the user's weigher says; 0 without one.
    pub(crate) fn bytes(&self) -> u64 {
        self.packed.bytes()
    }

    /// The TTL came with the value: nothing may serve it longer.
    pub(crate) fn hard_ttl(&self) -> bool {
        self.packed.hard_ttl()
    }

    #[inline]
    pub(crate) fn tags(&self) -> &[u64] {
        self.tags.as_deref().map_or(&[], |tags| tags)
    }
}

/// The hit rule: the TTL, then the promise. `fresh_as_of` is when the load began or when its lane was
/// verified, whichever is later.
#[inline]
pub(crate) fn judge(
    expired: bool,
    fresh_as_of: Nanos,
    max_staleness: Option<Nanos>,
    now: Nanos,
) -> Verdict {
    if expired {
        return Verdict::Expired;
    }
    match max_staleness {
        Some(bound) if now.saturating_sub(fresh_as_of) > bound => Verdict::Unverified,
        _ => Verdict::Fresh,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fresh,
    Expired,
    /// It may be stale by more than the bound: it was not verified lately.
    Unverified,
}

/// A key as the store keeps it. Entries are distinguished by the hash alone, so that an invalidation,
/// which knows only the hash, finds them; a lookup compares the key as well.
#[derive(Clone, Debug)]
pub(crate) struct Stored<K> {
    pub(crate) hash: u64,
    pub(crate) key: K,
}

impl<K> PartialEq for Stored<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<K> Eq for Stored<K> {}

impl<K> Hash for Stored<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Looks up by key: a colliding hash is a miss, never another key's value.
pub(crate) struct ByKey<'a, Q: ?Sized> {
    pub(crate) hash: u64,
    pub(crate) key: &'a Q,
}

impl<Q: ?Sized> Hash for ByKey<'_, Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K, Q: KeyRef<K> + ?Sized> Equivalent<Stored<K>> for ByKey<'_, Q> {
    #[inline]
    fn equivalent(&self, stored: &Stored<K>) -> bool {
        self.hash == stored.hash && self.key.matches(&stored.key)
    }
}

/// Looks up by hash alone, to invalidate.
pub(crate) struct ByHash(pub(crate) u64);

impl Hash for ByHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl<K> Equivalent<Stored<K>> for ByHash {
    fn equivalent(&self, stored: &Stored<K>) -> bool {
        self.0 == stored.hash
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity;

#[derive(Debug, Default)]
pub(crate) struct IdentityHasher(u64);

impl BuildHasher for Identity {
    type Hasher = IdentityHasher;
    fn build_hasher(&self) -> IdentityHasher {
        IdentityHasher(0)
    }
}

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is ever called; any other input still gives a hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_rule_at_its_edges() {
        let judge = |loaded_at: Nanos, verified_at, bound, now| {
            judge(now >= 1_000, loaded_at.max(verified_at), bound, now)
        };
        assert_eq!(judge(100, 0, Some(50), 150), Verdict::Fresh);
        assert_eq!(judge(100, 0, Some(50), 151), Verdict::Unverified);
        assert_eq!(judge(100, 500, Some(50), 550), Verdict::Fresh);
        assert_eq!(judge(100, 990, Some(50), 999), Verdict::Fresh);
        assert_eq!(judge(100, 990, Some(50), 1_000), Verdict::Expired);
        assert_eq!(judge(100, 0, None, 999), Verdict::Fresh);
        // A clock that another member read a little earlier is no reason to panic.
        assert_eq!(judge(100, 500, Some(50), 90), Verdict::Fresh);
    }

    #[test]
    fn equal_hashes_of_different_keys_are_distinguished_by_lookups_only() {
        let stored = Stored {
            hash: 7,
            key: String::from("a"),
        };
        assert!(ByKey { hash: 7, key: "a" }.equivalent(&stored));
        assert!(!ByKey { hash: 7, key: "b" }.equivalent(&stored));
        assert!(ByHash(7).equivalent(&stored));
        assert_eq!(
            stored,
            Stored {
                hash: 7,
                key: String::from("b")
            }
        );
    }
}
