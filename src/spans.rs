//! Spans of `tracing`: what loads, waits, writes, publishes and repairs, one function for each. Hits have none.
//!
//! A span is built only where a subscriber wants it, and has no key, only its hash. How something ended is recorded
//! where it is counted: `Family::note`. docs/observability.md has the table.

use std::fmt;

use tracing::Span;
use tracing::field::Empty;

use crate::Error;
use crate::bus::Position;

/// The hash of a key, in the form in which `unstale why` and the events of the log show it.
pub(crate) struct Hash(pub(crate) u64);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Makes a span of level debug: each read that is not a hit makes some.
macro_rules! span {
    ($name:literal, $($fields:tt)*) => {
        tracing::debug_span!(target: "unstale", $name, $($fields)*)
    };
}

/// Returns the span of a load of one key, from the read that leads it to its landing: its turn, the shared tier, the
/// loader.
pub(crate) fn load(cache: &str, hash: u64, lane: u32, cause: &'static str) -> Span {
    span!(
        "load",
        cache,
        key = %Hash(hash),
        lane,
        cause,
        outcome = Empty,
        coalesced = Empty,
        origin = Empty,
        epoch = Empty,
        sequence = Empty
    )
}

/// One call of a batch loader.
pub(crate) fn load_batch(cache: &str, keys: usize) -> Span {
    span!("load_batch", cache, keys, outcome = Empty)
}

/// Returns the span of a read that waits for a load which another one leads.
pub(crate) fn load_wait(cache: &str, hash: u64, lane: u32) -> Span {
    span!("load_wait", cache, key = %Hash(hash), lane)
}

/// Returns the span of a read that waits until its lane is verified.
pub(crate) fn verification_wait(lane: u32) -> Span {
    span!("verification_wait", lane, outcome = Empty)
}

/// Returns the span of a write of so many keys, tags and caches; `announce`, `commit` and `publish` are in it.
pub(crate) fn write(operations: usize) -> Span {
    span!("write", operations, outcome = Empty)
}

/// Returns the span of the announcement of a write, in all lanes that it concerns.
pub(crate) fn announce() -> Span {
    span!("announce",)
}

/// Returns the span of the program's own commit.
pub(crate) fn commit() -> Span {
    span!("commit",)
}

/// After a commit, until Redis has acknowledged its events.
pub(crate) fn publish() -> Span {
    span!("publish",)
}

/// One event on its way to Redis. It gathers what several writes have queued, so it is in none of their spans.
pub(crate) fn publication(lane: u32, operations: usize) -> Span {
    span!(
        "publication",
        lane,
        operations,
        outcome = Empty,
        epoch = Empty,
        sequence = Empty
    )
}

/// How a publication ended.
pub(crate) fn published(span: &Span, ended: Result<Position, &Error>) {
    match ended {
        Ok(Position { epoch, sequence }) => {
            span.record("outcome", "ok");
            span.record("epoch", epoch);
            span.record("sequence", sequence);
        }
        Err(_) => {
            span.record("outcome", "failed");
        }
    }
}

/// Returns the span of a question to the journal for events that were missed.
pub(crate) fn repair(lane: u32, after: u64) -> Span {
    span!("repair", lane, after, outcome = Empty)
}

/// Everything of a lane is dropped.
pub(crate) fn fenced(lane: u32, cause: &'static str) {
    tracing::debug!(target: "unstale", lane, cause, "fence");
}

/// Returns the span of a question to the shared tier.
#[cfg(feature = "shared")]
pub(crate) fn tier_fetch(cache: &str, hash: u64, lane: u32) -> Span {
    span!("tier_fetch", cache, key = %Hash(hash), lane, outcome = Empty)
}

/// Returns the span of a value on its way to the shared tier.
#[cfg(feature = "shared")]
pub(crate) fn tier_store(cache: &str, hash: u64, lane: u32) -> Span {
    span!("tier_store", cache, key = %Hash(hash), lane, outcome = Empty)
}

/// Returns the span of what transactions of a source have changed that were read meanwhile, on its way to Redis.
#[cfg(any(test, feature = "test-util", feature = "relay"))]
pub(crate) fn relay_publication(source: &str, operations: usize) -> Span {
    span!("relay_publication", source, operations)
}
