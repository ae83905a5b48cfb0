//! Invalidations and writes of one cache.

use std::future::Future;

use crate::cache::Cache;
use crate::coherence::commit;
use crate::coherence::outbox::Invalidation;
use crate::coherence::publish;
use crate::coherence::registry::AnyCache;
use crate::key::reference::KeyRef;
use crate::key::{tag_hash, too_long};
use crate::{Error, Key, Token, WriteError};

impl<K, V> Cache<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Drops the key here and on every other instance.
    ///
    /// The local drop and the queueing happen at the call, so that blocking code may call it and drop the
    /// future; the future waits until Redis has acknowledged the event. Call it *after* the change is
    /// committed, or better use [`write`](Self::write), which survives a crash in between. It returns a
    /// [`Token`], with which [`get_after`](Self::get_after) returns nothing older on any instance.
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
    /// names.get(&7).await?;
    /// // ... another program has committed a change of account 7 ...
    /// names.invalidate(&7).await?;
    /// assert_eq!(names.peek(&7), None); // gone here, and on every other instance
    ///
    /// // Blocking code does not wait:
    /// drop(names.invalidate(&8));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Bus` when Redis has not acknowledged within `publish_timeout`: the local drop stands, and
    /// the event is kept and retried. `Closed` after shutdown. `Key`: nothing can be cached under
    /// such a key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future only stops the wait.
    #[doc(alias = "remove")]
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate(key))`"]
    pub fn invalidate<Q>(
        &self,
        key: &Q,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V, Q>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.invalidate_items(self.key_item(key).map(|item| vec![item]))
    }

    /// Drops many keys, as [`invalidate`](Self::invalidate) drops one, with one message for each 1,024 keys of
    /// a lane. It takes keys or their reference forms, as [`get_many`](Self::get_many) does.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let sessions = instance
    ///     .cache::<String, u64>("sessions")
    ///     .loader(|id: String| async move { Ok(id.len() as u64) })
    ///     .build()?;
    /// sessions.get_many(["s-1", "s-2"]).await?;
    /// sessions.invalidate_many(["s-1", "s-2"]).await?; // the user has signed out everywhere
    /// assert_eq!(sessions.peek("s-1"), None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate); a key over the limit is refused before any is dropped.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate_many(keys))`"]
    pub fn invalidate_many<I>(
        &self,
        keys: I,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V, I>
    where
        I: IntoIterator,
        I::Item: KeyRef<K>,
    {
        let items = keys.into_iter().map(|key| self.key_item(&key));
        self.invalidate_items(items.collect())
    }

    /// Drops every entry of this cache whose loader gave it `tag`, here and on every other instance. It acts at
    /// the call, as [`invalidate`](Self::invalidate) does.
    ///
    /// For a change that your code commits, use [`Batch::tag`](crate::Batch::tag) and
    /// [`Batch::write`](crate::Batch::write), which survive a crash between the commit and the invalidation.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::Loaded;
    ///
    /// let prices = instance
    ///     .cache::<u64, u64>("prices")
    ///     .loader(|product: u64| async move {
    ///         let (cents, supplier) = (product * 100, product % 3); // a row of the database
    ///         Ok(Loaded::new(cents).tag(format!("supplier-{supplier}")))
    ///     })
    ///     .build()?;
    /// prices.get_many([1, 2, 4]).await?;
    /// prices.invalidate_tag("supplier-1").await?;
    /// assert_eq!((prices.peek(&1), prices.peek(&2), prices.peek(&4)), (None, Some(200), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    #[doc(alias = "remove_by_tag")]
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate_tag(tag))`"]
    pub fn invalidate_tag(
        &self,
        tag: &str,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V> {
        self.invalidate_items(Ok(vec![self.tag_item(tag)]))
    }

    /// Drops every entry of this cache, here and on every other instance, in O(1). It acts at the call, as
    /// [`invalidate`](Self::invalidate) does.
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
    /// names.get_many([7, 8]).await?;
    /// names.invalidate_all().await?; // after an import, say
    /// assert_eq!((names.peek(&7), names.peek(&8)), (None, None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate_all())`"]
    pub fn invalidate_all(
        &self,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V> {
        self.invalidate_items(Ok(vec![self.cache_item()]))
    }

    /// Drops and queues at the call; the future only waits.
    fn invalidate_items(
        &self,
        items: Result<Vec<Invalidation>, Error>,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V> {
        let member = self.0.member();
        let items = items.inspect(|items| {
            for item in items {
                self.0.drop_local(*item);
            }
            member.note_own(items);
        });
        publish::all(member, items)
    }

    /// Runs `commit`, then invalidates the key here and on every other instance. It is crash safe: if the
    /// process dies, stalls or drops the future after the commit has begun, the key is invalidated all the
    /// same, by this instance or by another one. For several keys, tags or caches see
    /// [`Batch::write`](crate::Batch::write).
    ///
    /// Before the commit the write is announced to Redis (one round trip). Under the policy `strict`, the
    /// default, a write that cannot be announced is refused and nothing is committed: at once if the connection
    /// has been lost for longer than a second, within what is left of that second if it was lost just now, and
    /// after a second (or `publish_timeout`, if that is shorter) if Redis is connected and does not answer. The
    /// commit is abandoned after `write_timeout`. Let your database enforce a shorter one: a statement timeout
    /// of `write_timeout` less twice `member_timeout`, because it begins after the announcement. A commit that
    /// takes effect later is not seen before the TTL.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::WriteError;
    ///
    /// # let names = instance
    /// #     .cache::<u64, String>("account_names")
    /// #     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    /// #     .build()?;
    /// let commit = async { Ok::<_, std::io::Error>(1) }; // UPDATE accounts SET name = $1 WHERE id = 7
    /// let rows = match names.write(&7, commit).await {
    ///     Ok(rows) | Err(WriteError::Unconfirmed { value: rows, .. }) => rows, // committed
    ///     Err(error) => return Err(error.into()), // `WriteError` has the HTTP status of each
    /// };
    /// assert_eq!(rows, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`WriteError`]: nothing is committed; the commit has failed; it was abandoned; or it **is
    /// committed** and not acknowledged. That one, [`Unconfirmed`](WriteError::Unconfirmed), has the value: do
    /// not report it as a failure.
    ///
    /// # Panics
    ///
    /// Only if `commit` panics; the key is then invalidated too.
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
        Q: KeyRef<K> + ?Sized,
    {
        let written = self.write_with_token(key, commit).await?;
        Ok(written.0)
    }

    /// Runs `commit` as [`write`](Self::write) does, and returns its value and the [`Token`] of what was
    /// published: with it [`get_after`](Self::get_after) returns nothing older on any instance.
    ///
    /// A write that ends as [`Unconfirmed`](WriteError::Unconfirmed) has no token: read by
    /// [`get_latest`](Self::get_latest), or send [`Token::latest`] along. Neither reflects the write on another
    /// instance before it is published.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use unstale::{Instance, Settings};
    /// # let instance = Instance::start(Settings::default()).await?;
    /// # let users = instance.cache::<u64, String>("users")
    /// #     .loader(|id: u64| async move { Ok(format!("user {id}")) }).build()?;
    /// # async fn rename() -> Result<u32, std::io::Error> { Ok(1) }
    /// let (rows, token) = users.write_with_token(&7, rename()).await?;
    /// # assert_eq!(rows, 1);
    /// // The user's next request may reach any instance:
    /// let name = users.get_after(&7, &token).await?;
    /// # assert_eq!(name.as_deref(), Some("user 7"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Panics
    ///
    /// As [`write`](Self::write).
    ///
    /// # Cancel safety
    ///
    /// As [`write`](Self::write).
    pub async fn write_with_token<Q, T, E>(
        &self,
        key: &Q,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Token), WriteError<T, E>>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let item = self.key_item(key).map_err(WriteError::Refused)?;
        let write = commit::write(self.0.member(), vec![item], commit);
        self.0.entered(write).await
    }

    pub(crate) fn key_item<Q>(&self, key: &Q) -> Result<Invalidation, Error>
    where
        Q: KeyRef<K> + ?Sized,
    {
        let hash = key.digest().ok_or_else(too_long)?;
        Ok(Invalidation::Key {
            cache: self.0.id,
            format: K::FORMAT,
            hash,
        })
    }

    pub(crate) fn tag_item(&self, tag: &str) -> Invalidation {
        Invalidation::Tag {
            cache: self.0.id,
            format: K::FORMAT,
            tag: tag_hash(tag),
        }
    }

    pub(crate) fn cache_item(&self) -> Invalidation {
        Invalidation::Cache {
            cache: self.0.id,
            format: K::FORMAT,
        }
    }
}
