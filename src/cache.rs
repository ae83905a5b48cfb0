//! `Cache`: every read and every write starts here.

mod audit;
mod builder;
pub(crate) mod inner;
mod latest;
mod load;
mod many;
mod refresh;
mod registration;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod tier;
mod unknown;

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use builder::CacheBuilder;
use inner::Inner;
use registration::Registration;
use tier::Wanted;

use crate::core::Target;
use crate::key::{KeyRef, tag_hash, too_long};
use crate::loader::Loaded;
use crate::outbox::Item;
use crate::writes::{self, Change};
use crate::{BoxError, Error, Key, WriteError};

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
///     .loader(|key: String| async move { Ok::<_, std::io::Error>(key.len()) })
///     .build()?;
///
/// assert_eq!(lengths.get("four").await?, Some(4));
/// assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Hit);
/// lengths.invalidate("four").await?;
/// assert_eq!(lengths.lookup("four").await?.outcome, Outcome::Miss);
/// # Ok(())
/// # }
/// ```
pub struct Cache<K, V>(pub(crate) Arc<Inner<K, V>>, Arc<Registration>);

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

/// How a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// From memory.
    Hit,
    /// From memory: it is known not to exist.
    Negative,
    /// This call started a load.
    Miss,
    /// This call found it in the shared tier.
    Shared,
    /// This call waited for a load that another had started.
    Coalesced,
}

/// An answer, and how it came about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lookup<V> {
    /// The value; `None` when it does not exist.
    pub value: Option<V>,
    /// Where it came from.
    pub outcome: Outcome,
    /// Time since the load that produced it began.
    pub age: Duration,
}

impl<V> Lookup<V> {
    #[inline]
    pub(crate) fn new(value: Option<V>, outcome: Outcome, age: u64) -> Self {
        Self {
            value,
            outcome,
            age: Duration::from_nanos(age),
        }
    }
}

/// Counters of one cache in one instance, since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries in memory, those that are no longer served but not yet freed included.
    pub entries: u64,
    /// Reads answered from memory with a value.
    pub hits: u64,
    /// Reads answered from memory with "does not exist".
    pub negative_hits: u64,
    /// Reads that started a load.
    pub misses: u64,
    /// Reads that waited for a load another had started.
    pub coalesced: u64,
    /// Loads that have ended, whatever their outcome.
    pub loads: u64,
    /// Loads whose value was not stored because it had been invalidated meanwhile.
    pub loads_discarded: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
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
    /// # Errors
    ///
    /// `Load`, `LoadTimeout` and `LoadPanic` for the loader's failures, `Overloaded` when
    /// `max_loads` are running and none ends within `load_timeout` or when `unknown_loads` refuses
    /// the key, `NoLoader`, and `Key` for a key over [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES). An error goes to every caller that waits for
    /// the load and is not remembered.
    ///
    /// # Panics
    ///
    /// Never; a loader that panics is an error. Call it inside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future never stops a load that others wait for, nor one it started itself: the
    /// value is stored all the same.
    pub async fn get<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        match self.0.hit(hash, key) {
            Ok(hit) => Ok(hit.value),
            // Boxed, so that a hit does not pay for the size of a miss.
            Err(missing) => {
                let loaded = Box::pin(self.0.miss(hash, key, missing, None, Wanted::Value)).await;
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
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        match self.0.hit(hash, key) {
            Ok(hit) => Ok(hit.into()),
            // Boxed, so that a hit does not pay for the size of a miss.
            Err(missing) => Box::pin(self.0.miss(hash, key, missing, None, Wanted::Value)).await,
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
    ///     Ok::<_, std::io::Error>(Loaded::new(token).ttl(lives).tag("tenant-7"))
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
    pub async fn get_with<Q, F, R, E>(&self, key: &Q, load: F) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
        F: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        let missing = match self.0.hit(hash, key) {
            Ok(hit) => return Ok(hit.value),
            Err(missing) => missing,
        };
        let load = Box::pin(async move { load.await.map(Into::into).map_err(Into::into) });
        Ok(
            Box::pin(self.0.miss(hash, key, missing, Some(load), Wanted::Value))
                .await?
                .value,
        )
    }

    /// The value if a hit would be served, from memory only; `None` otherwise, and also when it is
    /// known not to exist. Never waits, never loads: for blocking code.
    #[must_use]
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        self.0.hit(key.digest()?, key).ok()?.value
    }

    /// Drops the key here and on every peer.
    ///
    /// The local drop and the queueing happen at the call, so that blocking code may call it and
    /// drop the future; the future waits until Redis has acknowledged the event. Call it *after*
    /// the change is committed, or better use [`write`](Self::write), which survives a crash in
    /// between.
    ///
    /// # Errors
    ///
    /// `Bus` when Redis has not acknowledged within `publish_timeout`: the local drop stands, and
    /// the event is kept and retried. `Closed` after shutdown. `Key`: nothing can be cached under
    /// such a key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops the waiting.
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate(key))`"]
    pub fn invalidate<Q>(
        &self,
        key: &Q,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<K, V, Q>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let item = self.key_item(key);
        let core = self.0.core().clone();
        let queued = item.and_then(|item| {
            self.0.drop_local(item);
            core.enqueue(&[item], None)
        });
        async move { core.acknowledged(queued?).await }
    }

    /// As [`invalidate`](Self::invalidate) for many keys: one message for each 1,024 of a lane.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate); a key over the limit is refused before any is dropped.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate): all keys are dropped and queued at the first poll.
    pub async fn invalidate_many<'a, Q>(
        &self,
        keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result<(), Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized + 'a,
    {
        let items = keys.into_iter().map(|key| self.key_item(key));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        for item in &items {
            self.0.drop_local(*item);
        }
        let core = self.0.core();
        let queued = core.enqueue(&items, None)?;
        core.acknowledged(queued).await
    }

    /// Drops every entry of this cache whose loader gave it `tag`, here and on every peer.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate): dropped and queued at the first poll.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Error> {
        self.invalidate_item(self.tag_item(tag)).await
    }

    /// Drops every entry of this cache, here and on every peer, in O(1).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate): dropped and queued at the first poll.
    pub async fn invalidate_all(&self) -> Result<(), Error> {
        self.invalidate_item(Item::Cache {
            cache: self.0.id,
            format: K::FORMAT,
        })
        .await
    }

    async fn invalidate_item(&self, item: Item) -> Result<(), Error> {
        self.0.drop_local(item);
        let core = self.0.core();
        let queued = core.enqueue(&[item], None)?;
        core.acknowledged(queued).await
    }

    /// Runs `commit`, then invalidates the key here and on every peer. Crash safe: if the process
    /// dies, stalls or drops the future after the commit has begun, the key is invalidated all the
    /// same, by this instance or by a peer.
    ///
    /// Before the commit the write is announced to Redis (one round trip). Under the policy
    /// `strict`, the default, a write that cannot be announced is refused and nothing is committed:
    /// at once if the connection has been lost for longer than a second, within what is left of that
    /// second if it was lost just now, and after a second (or `publish_timeout`, if that is shorter)
    /// if Redis is connected and does not answer.
    /// The commit is abandoned after `write_timeout`. Let your database enforce a shorter one: a
    /// statement timeout of `write_timeout` less twice `member_timeout`, because it begins after the
    /// announcement. A commit that lands later stays unseen until the TTL.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]: nothing committed; the commit's own error; abandoned; or committed but
    /// not acknowledged, with the value.
    ///
    /// # Panics
    ///
    /// Only if `commit` does; the key is invalidated then too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the commit, whose outcome is then unknown: the key is invalidated
    /// at once and again after `write_timeout`.
    pub async fn write<Q, T, E>(
        &self,
        key: &Q,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<T, WriteError<T, E>>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let item = self.key_item(key).map_err(WriteError::Refused)?;
        let change = Change { items: vec![item] };
        writes::write(self.0.core(), change, commit).await
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

    pub(crate) fn key_item<Q>(&self, key: &Q) -> Result<Item, Error>
    where
        K: Borrow<Q>,
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        Ok(Item::Key {
            cache: self.0.id,
            format: K::FORMAT,
            hash,
        })
    }

    pub(crate) fn tag_item(&self, tag: &str) -> Item {
        Item::Tag {
            cache: self.0.id,
            format: K::FORMAT,
            tag: tag_hash(tag),
        }
    }

    pub(crate) fn cache_item(&self) -> Item {
        Item::Cache {
            cache: self.0.id,
            format: K::FORMAT,
        }
    }
}
