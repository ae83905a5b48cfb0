//! The shared tier: values that are expensive to load live in Redis as well.
//!
//! - [`SharedTier`]: what of a value is stored, and how
//! - [`client`]: fetch and store; [`value`]: a value's bytes; [`shape`]: whether they read back; [`names`]: the
//!   names of values, and their MACs
//! - [`claim`]: one load for the whole fleet
//! - [`pool`], [`breaker`]: places for calls; Redis is slow or away
//!
//! A cache decides before it asks, and afterwards, whether a value is fresh enough: `cache/from_tier.rs`.

pub(crate) mod breaker;
pub(crate) mod claim;
pub(crate) mod client;
pub(crate) mod names;
pub(crate) mod pool;
mod shape;
pub(crate) mod value;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use value::{Codec, Projection};

/// Largest value stored, unless the program says otherwise: Redis serves a few hundred of these a
/// second before they keep all others waiting.
const MAX_BYTES: usize = 1 << 20;

/// Values above this are compressed, unless the program says otherwise. Below, a kilobyte or two on
/// the wire costs less than the processor's time.
const COMPRESS_ABOVE: usize = 2_048;

/// How values of a cache live in Redis; see [`CacheBuilder::tier`](crate::CacheBuilder::tier).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use unstale::SharedTier;
///
/// #[derive(Clone)]
/// struct Account { id: u64, plan: String, oauth_token: String }
///
/// /// What readers need.
/// #[derive(Serialize, Deserialize)]
/// struct Slim { id: u64, plan: String }
///
/// let shared = SharedTier::projection(
///     |account: &Account| Slim { id: account.id, plan: account.plan.clone() },
///     |slim: Slim| Account { id: slim.id, plan: slim.plan, oauth_token: String::new() },
/// )
/// .version(3) // another number whenever `Slim` changes
/// .fleet_single_flight(Duration::from_secs(2));
/// # let _ = shared;
/// ```
#[must_use]
pub struct SharedTier<V> {
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) version: u32,
    pub(crate) compress_above: usize,
    pub(crate) max_bytes: usize,
    pub(crate) ttl: Option<Duration>,
    pub(crate) single_flight: Option<Duration>,
    pub(crate) whole_where_loaded: bool,
}

impl<V> fmt::Debug for SharedTier<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTier")
            .field("version", &self.version)
            .field("compress_above", &self.compress_above)
            .field("max_bytes", &self.max_bytes)
            .field("ttl", &self.ttl)
            .field("single_flight", &self.single_flight)
            .finish_non_exhaustive()
    }
}

impl<V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Default for SharedTier<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: 'static> SharedTier<V> {
    /// Stores values as they are: whatever serde can write and read back. A value that comes back as another one,
    /// or not at all (`Some(None)`, an internally tagged enum with an `IpAddr`), is not stored, which is logged
    /// once; it stays in memory. A value counts for caches of the same type alone, by its full name.
    pub fn new() -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        Self::with_codec(value::Whole)
    }

    /// Stores what `to` makes of a value, and serves what `from` makes of that: `from(to(value))`, also where
    /// the value was loaded, so that all instances serve the same. So `to` must keep every field that any reader
    /// needs. [`whole_where_loaded`](Self::whole_where_loaded) keeps what a loader returned.
    pub fn projection<P, T, F>(to: T, from: F) -> Self
    where
        P: Serialize + DeserializeOwned + 'static,
        T: Fn(&V) -> P + Send + Sync + 'static,
        F: Fn(P) -> V + Send + Sync + 'static,
    {
        Self::with_codec(Projection::new(to, from))
    }

    fn with_codec(codec: impl Codec<V> + 'static) -> Self {
        Self {
            codec: Arc::new(codec),
            version: 0,
            compress_above: COMPRESS_ABOVE,
            max_bytes: MAX_BYTES,
            ttl: None,
            single_flight: None,
            whole_where_loaded: false,
        }
    }

    /// With a projection: the instance that has loaded a value keeps and serves it whole, and all others what the
    /// projection leaves of it. What a reader gets then depends on the instance.
    pub fn whole_where_loaded(mut self) -> Self {
        self.whole_where_loaded = true;
        self
    }

    /// The version of what is stored: change it with the type. A value of another version is a
    /// miss, so that old and new instances run side by side. Defaults to 0.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Compresses what is larger than this (DEFLATE), if that makes it smaller. Defaults to 2,048
    /// bytes; `usize::MAX` never does.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// Stores nothing larger than this, before compression; such a value is counted and stays in
    /// memory only. Defaults to 1 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a value may live in Redis since its load began; a TTL that came with the value wins.
    /// A longer one than the cache's TTL lets entries of memory be renewed from Redis, and is
    /// then the bound for changes that were not invalidated. Defaults to the cache's TTL
    /// (`UNSTALE_TIER_TTL`).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// One instance loads a key, the others wait for its value at most this long and then load
    /// themselves. Errors are not shared: when the load fails, the next one tries. While Redis is
    /// silent every instance loads, after half a second at most; while it is known to be away, at once.
    /// Single keys only: a batch neither waits nor makes others wait. Defaults to off.
    pub fn fleet_single_flight(mut self, wait: Duration) -> Self {
        self.single_flight = Some(wait);
        self
    }
}
