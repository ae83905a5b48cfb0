//! What one message of a lane says: which entries to drop, and who says so.
//!
//! An event never carries a value or a key in clear, only hashes; [`wire`] is its encoding and
//! [`seal`] proves who made it.

mod seal;
mod wire;

pub(crate) use seal::{Mac, Seal};
pub(crate) use wire::{DecodeError, decode, encode_within};

/// The origin of events that every instance applies, whoever sent them: those of a dead writer.
pub(crate) const NOBODY: u64 = 0;

/// One message: invalidations of one lane that were published together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The instance that invalidated, or [`NOBODY`].
    pub(crate) origin: u64,
    /// The origin's own monotonic clock in nanoseconds; it means something to the origin alone.
    pub(crate) sent: u64,
    pub(crate) ops: Vec<Op>,
}

/// One invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    /// The cache's id; 0 for [`What::Lane`].
    pub(crate) cache: u32,
    /// The fingerprint of the cache's key format. An instance that has another one cannot match
    /// the hashes and drops the whole cache. 0 for [`What::Lane`].
    pub(crate) format: u32,
    pub(crate) what: What,
}

/// What to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The entries with these key hashes.
    Keys(Vec<u64>),
    /// Every entry of the cache that has one of the tags with these hashes.
    Tags(Vec<u64>),
    /// Every entry of the cache.
    Cache,
    /// Every entry of the lane, of all caches.
    Lane,
}

impl Op {
    /// Drops everything of the lane: what every event may be collapsed to.
    pub(crate) fn lane() -> Self {
        Self {
            cache: 0,
            format: 0,
            what: What::Lane,
        }
    }
}

#[cfg(test)]
mod tests;
