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
    /// Drops the key here and on every peer.
    ///
    /// The local drop and the queueing happen at the call, so that blocking code may call it and
    /// drop the future; the future waits until Redis has acknowledged the event. Call it *after*
    /// the change is committed, or better use [`write`](Self::write), which survives a crash in
    /// between. With the [`Token`] that it returns [`get_after`](Self::get_after) reads, on any instance, nothing older.
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
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V, Q>
    where
        Q: KeyRef<K> + ?Sized,
    {
        self.invalidate_items(self.key_item(key).map(|item| vec![item]))
    }

    /// As [`invalidate`](Self::invalidate) for many keys: one message for each 1,024 of a lane. Takes keys
    /// or their reference forms, as [`get_many`](Self::get_many) does.
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

    /// Drops every entry of this cache whose loader gave it `tag`, here and on every peer. Acts at the
    /// call, as [`invalidate`](Self::invalidate) does.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    #[must_use = "dropping the future is fine, but says so: `drop(cache.invalidate_tag(tag))`"]
    pub fn invalidate_tag(
        &self,
        tag: &str,
    ) -> impl Future<Output = Result<Token, Error>> + Send + 'static + use<K, V> {
        self.invalidate_items(Ok(vec![self.tag_item(tag)]))
    }

    /// Drops every entry of this cache, here and on every peer, in O(1). Acts at the call, as
    /// [`invalidate`](Self::invalidate) does.
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
        Q: KeyRef<K> + ?Sized,
    {
        let written = self.write_with_token(key, commit).await?;
        Ok(written.0)
    }

    /// As [`write`](Self::write), and returns, after what the commit did, the [`Token`] of what was published: with it
    /// [`get_after`](Self::get_after) reads, on any instance, nothing older.
    ///
    /// A write that ends as [`Unconfirmed`](WriteError::Unconfirmed) has no token: read it by
    /// [`get_latest`](Self::get_latest), or send [`Token::latest`] along. Neither sees it elsewhere before it is published.
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
