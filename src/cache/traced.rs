//! What the spans of reads and loads say.

use tracing::Span;
use tracing::field::display;

use crate::Key;
use crate::bus::Position;
use crate::cache::lookup::Outcome;
use crate::cache::state::CacheState;
use crate::metrics::{Miss, label};
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
        let span = self.span_of_load(hash, label(cause));
        if matches!(cause, Miss::Invalidated | Miss::Fenced) && !span.is_disabled() {
            self.name_invalidation(&span, hash);
        }
        span
    }

    /// Which invalidation made a load necessary, as far as the instance remembers: the tags of what was dropped are
    /// gone with it.
    fn name_invalidation(&self, span: &Span, hash: u64) {
        let Some(last) = self.member().recent.last_for(self.id, hash, &[]) else {
            return;
        };
        if let Some(origin) = last.origin {
            span.record("origin", display(origin));
        }
        if let Some(Position { epoch, sequence }) = last.position {
            span.record("epoch", epoch);
            span.record("sequence", sequence);
        }
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
