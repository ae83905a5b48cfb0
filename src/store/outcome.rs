//! What a store is made with, and what it answers.

use std::sync::Arc;

use crate::contain::Contain;
use crate::metrics::Miss;
use crate::store::entry::Tags;
use crate::store::refresh::Refresh;
use crate::store::source::SourceFreshness;
use crate::store::stamps::Stamp;
use crate::time::{Clock, Nanos};

/// What a store needs to know of its cache.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    pub(crate) cache: u32,
    pub(crate) capacity: usize,
    /// Of what is known not to exist, beside those.
    pub(crate) negative_capacity: usize,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_staleness: Option<Nanos>,
    /// Where `max_staleness` counts from the commit.
    pub(crate) source: Option<Arc<SourceFreshness>>,
    /// From when on a hit asks for a reload.
    pub(crate) refresh: Option<Refresh>,
    /// Loads of unknown keys are limited: remember which keys are known.
    pub(crate) remember_known: bool,
    pub(crate) clock: Clock,
    /// Runs what belongs to the user.
    pub(crate) contain: Arc<Contain>,
}

/// What a lookup found that may be served.
pub(crate) struct Found<V> {
    /// `None`: it is known not to exist.
    pub(crate) value: Option<V>,
    pub(crate) age: Nanos,
    /// It is due for a reload.
    pub(crate) refresh: bool,
}

/// Why a lookup found nothing that may be served. Apart from [`Found`], and without a value: a hit
/// that shared its type would be written to memory and read back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotServed {
    /// There is an entry, but its lane was not verified lately.
    Unverified,
    /// It is past its TTL, by so much; the code that answers the read observes that, once.
    Expired {
        overage: Nanos,
    },
    Missing(Miss),
    /// It is known not to exist, which the read confirms before it says so.
    Unconfirmed,
}

/// What may be served in place of a load that failed.
pub(crate) enum PastTtl<V> {
    Value {
        value: V,
        tags: Tags,
        age: Nanos,
        /// It reflects everything published before.
        fresh_as_of: Nanos,
    },
    /// There is an entry, but its lane was not verified lately.
    Unverified,
    Nothing,
}

/// How an insert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    Stored,
    /// An invalidation at this stamp came after the load began.
    Discarded(Stamp),
    /// Larger than a shard of the store may hold.
    Oversized,
    /// Another load of the key is being stored at this very moment.
    Busy,
}

/// What memory has of a key, served or not: for a loader that asks whether it has changed.
#[derive(Debug)]
pub(crate) struct Held<V> {
    pub(crate) value: V,
    pub(crate) tags: Tags,
}
