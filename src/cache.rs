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
/// There is no `insert`: a value enters only through a load, so that the cache notices an invalidation that
/// happens while the value is on its way.
///
/// # Your code inside of a cache
///
/// Values are cloned, and keys are compared and cloned, while a part of the store is locked: a value's `Clone`,
/// and a key's `Clone`, `Eq` and `Drop`, must not call the cache, or the call waits for itself. A value's
/// `Drop` may call it: it runs when nothing is locked. It may run in a task of the instance, which waits until
/// it returns. A panic in a drop, in a key or in a weigher loses that one value; the log line does not contain
/// it.
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
    /// Returns the value, from memory or from the loader; `None` if it does not exist.
    ///
    /// On a hit the future is ready at its first poll, and only `V::clone` allocates.
    ///
    /// While Redis does not answer, a read of an entry that was not verified within `max_staleness`
    /// waits for a verification, `verification_wait` (250 ms) at most, and then loads. It does so once for each outage:
    /// later reads load at once, until Redis answers again.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let names = instance
    ///     .cache::<u64, String>("account_names")
    ///     .loader(|id: u64| async move { Ok((id < 100).then(|| format!("account {id}"))) }) // `None`: no such row
    ///     .build()?;
    /// assert_eq!(names.get(&7).await?.as_deref(), Some("account 7"));
    /// assert_eq!(names.get(&700).await?, None); // that it does not exist is remembered, too
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Load`, `LoadTimeout` and `LoadPanic` for the loader's failures, `Overloaded` when `max_loads` are
    /// running and none ends within `load_timeout`, `Limited` when `unknown_loads` refuses the key, `NoLoader`,
    /// `Recursion` where a loader reads its own key, and `Key` for a key over
    /// [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES). A loader's error is returned to every caller that waits for the
    /// load, and to later callers within [`error_ttl`](crate::CacheBuilder::error_ttl).
    ///
    /// # Panics
    ///
    /// Never; a loader that panics is an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no load, not even one that it has started: the value is stored all the same.
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

    /// Returns what [`get`](Self::get) returns, and how it was answered: for `x-cache` headers, traces, tests.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # use unstale::Outcome;
    /// # let prices = instance
    /// #     .cache::<String, u64>("prices")
    /// #     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    /// #     .build()?;
    /// let answer = prices.lookup("sku-1").await?;
    /// assert_eq!((answer.value, answer.outcome), (Some(5), Outcome::Miss)); // loaded for this call
    /// let answer = prices.lookup("sku-1").await?;
    /// assert_eq!((answer.value, answer.outcome), (Some(5), Outcome::Hit));
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

    /// Returns the value as [`get`](Self::get) does, with a load for this call in place of the cache's loader.
    ///
    /// Callers of one key share whichever load began first. `load` must not begin its work before
    /// it is polled (an `async` block does not; the handle of a task that runs already would):
    /// what it read earlier could have been invalidated before the cache knew of the load.
    ///
    /// The same holds for a database transaction that is already open: under `REPEATABLE READ` (the default of
    /// MySQL) or `SERIALIZABLE` every query sees the state of the transaction's first one, so such a load reads
    /// what was current before it began, and the cache would take it for current. Begin the transaction inside
    /// of `load`, or read outside of it.
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
    /// As [`get`](Self::get), except for `NoLoader`.
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    #[doc(alias = "get_or_insert_with")]
    #[doc(alias = "get_or_set")]
    #[doc(alias = "try_get_with")]
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

    /// Returns the value as [`get`](Self::get) does, and reflects every invalidation that any instance
    /// published before the call. It takes one round trip to Redis, which concurrent calls share; then memory
    /// answers, if it holds the key.
    ///
    /// It is for the rare answer that must not be one network hop old, as a hit may be: after one instance has
    /// created a key, another instance may answer for a moment that it does not exist. For that case see
    /// [`confirm_absent`](crate::CacheBuilder::confirm_absent).
    ///
    /// While Redis does not answer, the value is loaded from the source. The call waits for Redis for
    /// `verification_wait` (250 ms) at most, once for each outage.
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

    /// Returns what [`get_latest`](Self::get_latest) returns, and how it was answered.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # use unstale::Outcome;
    /// # let prices = instance
    /// #     .cache::<String, u64>("prices")
    /// #     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    /// #     .build()?;
    /// prices.get("sku-1").await?;
    /// let answer = prices.lookup_latest("sku-1").await?;
    /// assert_eq!(answer.outcome, Outcome::Hit); // Redis was asked, and memory is up to date
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
    pub async fn lookup_latest<Q>(&self, key: &Q) -> Result<Lookup<V>, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let began = self.0.member().clock.precise();
        self.0.entered(self.0.latest(hash, key, began, None)).await
    }

    /// Returns the value if memory can serve it; `None` otherwise, and for a key that is known not to exist. It
    /// never waits and never loads, so that blocking code may call it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # let names = instance
    /// #     .cache::<u64, String>("account_names")
    /// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    /// #     .build()?;
    /// assert_eq!(names.peek(&7), None); // nothing has loaded it yet
    /// names.get(&7).await?;
    /// assert_eq!(names.peek(&7).as_deref(), Some("account 7"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.0.hit(key.digest()?, key).ok()?.value
    }

    /// Returns this instance's counters since the cache was built, and the number of entries.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// # let names = instance
    /// #     .cache::<u64, String>("account_names")
    /// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    /// #     .build()?;
    /// for _ in 0..4 {
    ///     names.get(&7).await?;
    /// }
    /// let stats = names.stats();
    /// assert_eq!((stats.entries, stats.misses, stats.hits), (1, 1, 3));
    /// # Ok(())
    /// # }
    /// ```
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
