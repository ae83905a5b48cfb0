//! `Cache`: every read and every write starts here.

pub(crate) mod admission;
mod after;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod auditor;
pub(crate) mod bucket;
pub(crate) mod builder;
pub(crate) mod explain;
pub(crate) mod failures;
pub(crate) mod flight;
#[cfg(feature = "shared")]
pub(crate) mod from_tier;
#[cfg(not(feature = "shared"))]
#[path = "cache/no_tier.rs"]
pub(crate) mod from_tier;
mod invalidations;
pub(crate) mod load;
mod load_many;
pub(crate) mod lookup;
mod many;
mod nested;
pub(crate) mod pauses;
pub(crate) mod primary;
pub(crate) mod read;
pub(crate) mod refresh;
pub(crate) mod registration;
mod replica;
mod stand_in;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod traced;
mod write;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::cache::lookup::{Lookup, Stats};
use crate::cache::registration::Registration;
use crate::cache::state::CacheState;
use crate::key::reference::KeyRef;
use crate::key::too_long;
use crate::loader::Loaded;
use crate::{BoxError, Error, Key};

/// A coherent local cache of one kind of value. Keep it in your application state; clones are
/// cheap and share everything.
///
/// There is no `insert`: a value enters only through a load, which is what makes it possible to
/// tell whether it was invalidated while it was on its way.
///
/// # Your code inside of a cache
///
/// Values are cloned, and keys are compared and cloned, while a part of the store is locked: a value's
/// `Clone`, and a key's `Clone`, `Eq` and `Drop`, must not call the cache, or the call waits for
/// itself. A value's `Drop` may: it runs when nothing is locked, though it may run in a task of the
/// instance, which waits until it returns. A panic in a drop, in a key or in a weigher costs the one
/// value, and is logged without it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Instance, Outcome, Settings};
///
/// let instance = Instance::start(Settings::default()).await?;
/// let lengths = instance
///     .cache::<String, usize>("lengths")
///     .loader(|key: String| async move { Ok(key.len()) })
///     .build()?;
///
/// assert_eq!(lengths.get("four").await?, Some(4));
/// assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Hit);
/// lengths.invalidate("four").await?;
/// assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Miss);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "near_cache")]
pub struct Cache<K, V>(pub(crate) Arc<CacheState<K, V>>, Arc<Registration>);

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value, from memory or from the loader; `None` when it does not exist.
    ///
    /// On a hit the future is ready at its first poll and nothing is allocated but what
    /// `V::clone` allocates.
    ///
    /// While Redis does not answer, a read of an entry that was not verified within `max_staleness`
    /// waits for a verification, `verification_wait` (250 ms) at most, and then loads. It does so once for each outage:
    /// later reads load at once, until Redis answers again.
    ///
    /// # Errors
    ///
    /// `Load`, `LoadTimeout` and `LoadPanic` for the loader's failures, `Overloaded` when
    /// `max_loads` are running and none ends within `load_timeout`, `Limited` when `unknown_loads`
    /// refuses the key, `NoLoader`, `Recursion` where a loader reads its own key, and `Key` for a key over
    /// [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES). The error of a loader goes to every caller that waits for the
    /// load, and to those who come within [`error_ttl`](crate::CacheBuilder::error_ttl).
    ///
    /// # Panics
    ///
    /// Never; a loader that panics is an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future never stops a load that others wait for, nor one it started itself: the
    /// value is stored all the same.
    pub async fn get<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        match self.0.hit(hash, key) {
            Ok(hit) => Ok(hit.value),
            // Boxed, so that a hit does not pay for the size of a miss.
            Err(missing) => {
                let loaded = self.0.entered(self.0.read(hash, key, missing, None)).await;
                loaded.map(|lookup| lookup.value)
            }
        }
    }

    /// As [`get`](Self::get), and says how it was answered: for `x-cache` headers, traces, tests.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn lookup<Q>(&self, key: &Q) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        match self.0.hit(hash, key) {
            Ok(hit) => Ok(hit.into()),
            // Boxed, so that a hit does not pay for the size of a miss.
            Err(missing) => self.0.entered(self.0.read(hash, key, missing, None)).await,
        }
    }

    /// As [`get`](Self::get), with a load for this call instead of the cache's loader.
    ///
    /// Callers of one key share whichever load began first. `load` must not begin its work before
    /// it is polled (an `async` block does not; the handle of a task that runs already would):
    /// what it read earlier could have been invalidated before the cache knew of the load.
    ///
    /// The same holds of a database transaction that is open already: under `REPEATABLE READ` (the
    /// default of MySQL) or `SERIALIZABLE` every query sees the state of the transaction's first one,
    /// so such a load reads what was current before it began, and stores it as though it were current
    /// now. Begin the transaction inside of `load`, or read outside of it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use unstale::{Instance, Loaded, Settings};
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let tokens = instance.cache::<String, String>("tokens").build()?;
    /// let fetch = async {
    ///     let (token, lives) = ("t0k3n".to_owned(), Duration::from_secs(120)); // from upstream
    ///     Ok(Loaded::new(token).ttl(lives).tag("tenant-7"))
    /// };
    /// assert_eq!(tokens.get_with("corp", fetch).await?.as_deref(), Some("t0k3n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), but `NoLoader`.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_with<Q, F, R>(&self, key: &Q, load: F) -> Result<Option<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
        F: Future<Output = Result<R, BoxError>> + Send + 'static,
        R: Into<Loaded<V>>,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let missing = match self.0.hit(hash, key) {
            Ok(hit) => return Ok(hit.value),
            Err(missing) => missing,
        };
        let load = Box::pin(async move { load.await.map(Into::into) });
        let read = self.0.read(hash, key, missing, Some(load));
        Ok(self.0.entered(read).await?.value)
    }

    /// As [`get`](Self::get), and reflects every invalidation that was published before the call, by
    /// any instance: one round trip to Redis, which all calls of the moment share, and then memory, as
    /// long as that knows the key.
    ///
    /// For the rare answer that must not be a hop old. A hit normally is: where one instance has
    /// created a key, another may believe for a moment that it does not exist, and what it refuses
    /// then has been created before. For that case see
    /// [`confirm_absent`](crate::CacheBuilder::confirm_absent).
    ///
    /// While Redis cannot be asked, the value is loaded from the source. The call waits `verification_wait` (250 ms) for
    /// Redis at most, once for each outage.
    ///
    /// ```
    /// # use unstale::{Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), unstale::Error> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// # let prices = instance
    /// #     .cache::<String, u64>("prices")
    /// #     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    /// #     .build()?;
    /// // The total of an order: what was published before this call is seen.
    /// let price = prices.get_latest("sku-1").await?;
    /// # assert_eq!(price, Some(5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn get_latest<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let found = self.lookup_latest(key).await?;
        Ok(found.value)
    }

    /// As [`get_latest`](Self::get_latest), and says how it was answered.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    pub async fn lookup_latest<Q>(&self, key: &Q) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let began = self.0.member().clock.precise();
        self.0.entered(self.0.latest(hash, key, began, None)).await
    }

    /// The value if a hit would be served, from memory only; `None` otherwise, and also when it is
    /// known not to exist. Never waits, never loads: for blocking code.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.0.hit(key.digest()?, key).ok()?.value
    }

    /// Counters since the cache was built, and its present size, in this instance.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let metrics = &self.0.metrics;
        Stats {
            entries: self.0.store.len() as u64,
            hits: metrics.hits(),
            negative_hits: metrics.negative_hits.get(),
            misses: metrics.misses.total(),
            coalesced: metrics.coalesced.get(),
            loads: metrics.loads.total(),
            loads_discarded: metrics.loads_discarded.get(),
            evictions: metrics.evictions.get(),
        }
    }
}
