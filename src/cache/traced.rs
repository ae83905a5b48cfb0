//! What the spans of reads and loads say.

use tracing::Span;

use crate::Key;
use crate::cache::lookup::Outcome;
use crate::cache::state::CacheState;
use crate::metrics::{Miss, Word};
use crate::spans;
use crate::store::stamps::lane_of;

impl<K, V> CacheState<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Counts a read that has to load, and returns the span of its load.
    pub(super) fn miss_of(&self, cause: Miss, hash: u64) -> Span {
        self.metrics.misses[cause].inc();
        self.span_of_load(hash, cause.word())
    }

    pub(super) fn span_of_load(&self, hash: u64, cause: &'static str) -> Span {
        spans::load(&self.name, hash, self.lane_of(hash), cause)
    }

    /// Of a read that waits for a load of another; what leads one has the load's own.
    pub(super) fn span_of_wait(&self, outcome: Outcome, hash: u64) -> Span {
        if outcome != Outcome::Coalesced {
            return Span::none();
        }
        spans::load_wait(&self.name, hash, self.lane_of(hash))
    }

    fn lane_of(&self, hash: u64) -> u32 {
        lane_of(hash, self.member().lane_count())
    }
}
