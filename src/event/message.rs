//! One message of a lane: invalidations that were published together.

/// Longest payload any instance publishes or accepts, in bytes.
/// 1,024 packed keys take 8 KiB; the rest leaves room for many caches in one message.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// The origin of events that every instance applies, with their own sender too: those of a dead writer.
pub(crate) const NO_ORIGIN: u64 = 0;

/// One message: invalidations of one lane that were published together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The instance that invalidated, or [`NO_ORIGIN`].
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
