//! What the hit rule says of a key now, and of what: as an explanation needs it.

use crate::key::reference::KeyRef;
use crate::store::entry::{ByKey, Entry, Meta};
use crate::store::outcome::NotServed;
use crate::store::{Found, Store};
use crate::sync::Ordering::*;
use crate::time::Nanos;

/// A lookup that leaves no trace.
const LOOK: bool = true;

/// What the next lookup would find.
pub(crate) struct Foreseen {
    /// What is in memory, served or not.
    pub(crate) held: Option<HeldAs>,
    pub(crate) answer: Result<FoundAs, NotServed>,
}

/// What may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundAs {
    Value,
    Absence,
}

/// An entry without its value.
pub(crate) struct HeldAs {
    pub(crate) found: FoundAs,
    pub(crate) loaded_at: Nanos,
    pub(crate) expires_at: Nanos,
    /// Hashes of its tags.
    pub(crate) tags: Vec<u64>,
}

impl HeldAs {
    fn new(found: FoundAs, meta: &Meta) -> Self {
        Self {
            found,
            loaded_at: meta.loaded_at(),
            expires_at: meta.expires_at(),
            tags: meta.tags().to_vec(),
        }
    }
}

impl<K: Eq + Clone, V: Clone> Store<K, V> {
    /// Applies the hit rule as [`lookup`](Self::lookup) does, and leaves no trace. The value is cloned, and dropped
    /// again.
    pub(crate) fn foresee<Q>(&self, hash: u64, key: &Q) -> Foreseen
    where
        Q: KeyRef<K> + ?Sized,
    {
        let (lane, verified_at) = (self.stamps.lane(hash), self.verified_at(hash));
        let answer = self
            .lookup_as_of::<Q, LOOK>(hash, key, lane, verified_at)
            .map(|found| self.without_value(found));
        Foreseen {
            held: self.held_as(hash, key),
            answer,
        }
    }

    fn held_as<Q>(&self, hash: u64, key: &Q) -> Option<HeldAs>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let by_key = ByKey { hash, key };
        if let Some(Entry { value, meta }) = self.values.peek(&by_key) {
            let contain = &self.options.contain;
            contain.run("the drop of a value", || drop(value));
            return Some(HeldAs::new(FoundAs::Value, &meta));
        }
        if !self.has_absences.load(Relaxed) {
            return None;
        }
        let Entry { meta, .. } = self.absences.peek(&by_key)?;
        Some(HeldAs::new(FoundAs::Absence, &meta))
    }

    fn without_value(&self, found: Found<V>) -> FoundAs {
        let Some(value) = found.value else {
            return FoundAs::Absence;
        };
        let contain = &self.options.contain;
        contain.run("the drop of a value", || drop(value));
        FoundAs::Value
    }
}
