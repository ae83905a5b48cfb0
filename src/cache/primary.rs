//! The loader that reads from the primary of a replicated source, and the moments that say when it is needed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::loader::Loader;
use crate::lock::Lock;
use crate::store::stamps::Stamp;
use crate::time::Nanos;

/// The number of parts of the window in which the primary is read: the window may be longer by one
/// part.
const PARTS: u64 = 16;

/// The loader that reads from the primary, for some time after an invalidation.
pub(crate) struct Primary<K, V> {
    window: Nanos,
    pub(crate) load: Arc<Loader<K, V>>,
    /// Moments of loads, oldest first, at least a part of the window apart: the time, and the invalidation clock. Only
    /// the first is older than the window.
    moments: Lock<VecDeque<(Nanos, Stamp)>>,
}

impl<K, V> Primary<K, V> {
    pub(crate) fn new(window: Nanos, load: Arc<Loader<K, V>>) -> Self {
        Self {
            window,
            load,
            moments: Lock::default(),
        }
    }

    /// The invalidation clock at a moment that is a window ago at least; none where no such is known.
    pub(super) fn before(&self, now: Nanos, token: Stamp) -> Option<Stamp> {
        let mut moments = self.moments.lock();
        let part = self.window / PARTS;
        if moments.back().is_none_or(|(at, _)| *at + part <= now) {
            moments.push_back((now, token));
        }
        let old = |(at, _): &(Nanos, Stamp)| at.saturating_add(self.window) <= now;
        while moments.get(1).is_some_and(old) {
            moments.pop_front();
        }
        moments.front().copied().filter(old).map(|(_, token)| token)
    }
}
