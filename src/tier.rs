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
#[doc(alias = "distributed_cache")]
#[doc(alias = "l2")]
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
    /// Stores values as serde writes them. A value that serde reads back as another one, or not at all
    /// (`Some(None)`, an internally tagged enum with an `IpAddr`), is not stored, which is logged once; it
    /// stays in memory. Only caches of the same type, by its full name, use what is stored.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use serde::{Deserialize, Serialize};
    /// use unstale::SharedTier;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Report { tenant: u64, lines: Vec<String> }
    ///
    /// let reports = instance
    ///     .cache::<u64, Report>("reports")
    ///     .loader(|tenant: u64| async move { Ok(Report { tenant, lines: Vec::new() }) })
    ///     .tier(SharedTier::new())
    ///     .build()?;
    /// assert_eq!(reports.get(&7).await?.map(|report| report.tenant), Some(7));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        Self::with_codec(value::Whole)
    }

    /// Stores what `to` returns for a value, and serves what `from` returns for that. The instance that has
    /// loaded the value serves `from(to(value))` too, so that all instances serve the same. So `to` must keep
    /// every field that any reader needs. See [`whole_where_loaded`](Self::whole_where_loaded) for the other
    /// way.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::SharedTier;
    ///
    /// #[derive(Clone)]
    /// struct Page { text: String, words: usize }
    ///
    /// // The number of words follows from the text, and is not sent:
    /// let shared = SharedTier::projection(
    ///     |page: &Page| page.text.clone(),
    ///     |text: String| Page { words: text.split_whitespace().count(), text },
    /// );
    /// ```
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

    /// Lets the instance that has loaded a value keep and serve it whole, while all others serve what the
    /// projection leaves of it. What a reader gets then depends on the instance.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::SharedTier;
    ///
    /// #[derive(Clone)]
    /// struct Account { id: u64, token: Option<String> }
    ///
    /// // The token stays in the instance that has loaded it:
    /// let shared = SharedTier::projection(
    ///     |account: &Account| account.id,
    ///     |id: u64| Account { id, token: None },
    /// )
    /// .whole_where_loaded();
    /// ```
    pub fn whole_where_loaded(mut self) -> Self {
        self.whole_where_loaded = true;
        self
    }

    /// Sets the version of what is stored: change it with the type. A value of another version is a miss, so
    /// that old and new instances can run side by side. Defaults to 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::SharedTier;
    ///
    /// let shared = SharedTier::<(u64, String)>::new().version(2); // since the `String` was added
    /// ```
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Sets the size above which a value is compressed (DEFLATE), if that makes it smaller. Defaults to 2,048
    /// bytes; `usize::MAX` never does.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::SharedTier;
    ///
    /// let pictures = SharedTier::<Vec<u8>>::new().compress_above(usize::MAX); // JPEGs do not shrink
    /// ```
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// Sets the maximum size of a stored value, before compression; a larger one is counted and stays in memory
    /// only. Defaults to 1 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::SharedTier;
    ///
    /// let reports = SharedTier::<String>::new().max_bytes(256 << 10); // 256 KiB
    /// ```
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long a value may live in Redis, from the beginning of its load; a TTL that came with the value
    /// wins. If it is longer than the cache's TTL, entries in memory are renewed from Redis, and it is then the
    /// bound for changes that were not invalidated. Defaults to the cache's TTL (`UNSTALE_TIER_TTL`).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::SharedTier;
    ///
    /// let reports = SharedTier::<String>::new().ttl(Duration::from_secs(24 * 3_600));
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Lets one instance load a key while the others wait for its value, at most this long, and then load it
    /// themselves. Errors are not shared: if the load fails, the next instance tries. While Redis is silent
    /// every instance loads, after half a second at most; while Redis is known to be away, at once. It is for
    /// single keys: a batch neither waits nor makes others wait. Defaults to off.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::SharedTier;
    ///
    /// // A report takes 3 s to make: one instance makes it, and the others wait for that.
    /// let reports = SharedTier::<String>::new().fleet_single_flight(Duration::from_secs(5));
    /// ```
    pub fn fleet_single_flight(mut self, wait: Duration) -> Self {
        self.single_flight = Some(wait);
        self
    }
}
