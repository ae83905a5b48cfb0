//! Several keys, tags and caches that change together.

use std::future::Future;
use std::sync::Arc;

use super::statement::Statement;
use crate::coherence::commit;
use crate::coherence::lifeline::Lifeline;
use crate::coherence::outbox::Invalidation;
use crate::coherence::publish;
use crate::entered::entered;
use crate::key::reference::KeyRef;
use crate::{Cache, Error, ErrorKind, Key, Token, WriteError};

/// Keys, tags and caches that change together, in one database transaction for example: one message for each
/// lane. Begin with [`Instance::batch`](crate::Instance::batch).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use unstale::{Instance, Settings};
/// # let instance = Instance::start(Settings::default()).await?;
/// # let users = instance.cache::<u64, String>("users").build()?;
/// # let teams = instance.cache::<String, u64>("teams").build()?;
/// # async fn transaction() -> Result<u32, std::io::Error> { Ok(2) }
/// let rows = instance
///     .batch()
///     .key(&users, &7)
///     .tag(&teams, "members-of-7")
///     .write(transaction())
///     .await?;
/// # assert_eq!(rows, 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "a batch does nothing until `invalidate`, `write` or `in_transaction`"]
pub struct Batch {
    lifeline: Arc<Lifeline>,
    items: Vec<Invalidation>,
    /// The first item that cannot be used; nothing is done then.
    refused: Option<Error>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("items", &self.items.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new(lifeline: Arc<Lifeline>) -> Self {
        Self {
            lifeline,
            items: Vec::new(),
            refused: None,
        }
    }

    /// Adds a key. If the cache is not of the instance that began the batch, the batch is refused with an error
    /// of kind `Settings`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let accounts = instance.cache::<u64, String>("accounts").build()?;
    /// let transfer = async { Ok::<_, std::io::Error>(()) }; // from account 7 to account 8
    /// instance.batch().key(&accounts, &7).key(&accounts, &8).write(transfer).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn key<K, V, Q>(mut self, cache: &Cache<K, V>, key: &Q) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
        Q: KeyRef<K> + ?Sized,
    {
        match cache.key_item(key) {
            Ok(item) => self.add(cache, item),
            Err(error) => {
                self.refused.get_or_insert(error);
                self
            }
        }
    }

    /// Adds a tag: every entry of the cache whose loader gave it.
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
    ///     .loader(|product: u64| async move { Ok(Loaded::new(product * 100).tag("supplier-3")) })
    ///     .build()?;
    /// prices.get(&1).await?;
    /// let delete = async { Ok::<_, std::io::Error>(()) }; // DELETE FROM suppliers WHERE id = 3
    /// instance.batch().tag(&prices, "supplier-3").write(delete).await?;
    /// assert_eq!(prices.peek(&1), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tag<K, V>(self, cache: &Cache<K, V>, tag: &str) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let item = cache.tag_item(tag);
        self.add(cache, item)
    }

    /// Adds every entry of a cache.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let prices = instance.cache::<u64, u64>("prices").build()?;
    /// let import = async { Ok::<_, std::io::Error>(()) }; // a new list of prices
    /// instance.batch().all(&prices).write(import).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn all<K, V>(self, cache: &Cache<K, V>) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let item = cache.cache_item();
        self.add(cache, item)
    }

    fn add<K, V>(mut self, cache: &Cache<K, V>, item: Invalidation) -> Self
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let (own, other) = (self.lifeline.member(), cache.0.member());
        if !Arc::ptr_eq(own, other) {
            // Published for the batch's fleet, no instance that has the cache would hear of the item.
            let message = format!(
                "the batch is of the instance {:016x} in {:?}, and the cache {:?} of the instance \
                 {:016x} in {:?}: begin a batch with each instance",
                own.id, own.settings.namespace, cache.0.name, other.id, other.settings.namespace,
            );
            let error = Error::new(ErrorKind::Settings, message);
            self.refused.get_or_insert(error);
            return self;
        }
        self.items.push(item);
        self
    }

    /// Drops the whole batch, as [`Cache::invalidate_many`](crate::Cache::invalidate_many) drops keys:
    /// everything is dropped and queued at the call, and the future only waits for Redis. The token names every
    /// lane that the batch reaches; that of an empty batch is the token of no write.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let accounts = instance.cache::<u64, String>("accounts").build()?;
    /// let token = instance.batch().key(&accounts, &7).key(&accounts, &8).invalidate().await?;
    /// let header = format!("x-written: {token}"); // for `get_after`, on any instance
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate`](crate::Cache::invalidate); `Settings` if a cache of the batch is of another
    /// instance.
    ///
    /// # Cancel safety
    ///
    /// As [`Cache::invalidate`](crate::Cache::invalidate).
    #[must_use = "dropping the future is fine, but says so: `drop(batch.invalidate())`"]
    pub fn invalidate(self) -> impl Future<Output = Result<Token, Error>> + Send + 'static {
        let member = self.lifeline.member();
        let items = match self.refused {
            Some(error) => Err(error),
            None => {
                member.drop_local(&self.items);
                Ok(self.items)
            }
        };
        publish::all(member, items)
    }

    /// Runs `commit` and then invalidates the whole batch, crash safe as [`Cache::write`](crate::Cache::write)
    /// is.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::WriteError;
    ///
    /// let accounts = instance.cache::<u64, String>("accounts").build()?;
    /// let sessions = instance.cache::<String, u64>("sessions").build()?;
    /// let close = async { Ok::<_, std::io::Error>(2) }; // one transaction: account 7 and its sessions
    /// let batch = instance.batch().key(&accounts, &7).tag(&sessions, "account-7");
    /// let rows = batch.write(close).await.or_else(WriteError::committed)?;
    /// assert_eq!(rows, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::write`](crate::Cache::write).
    ///
    /// # Cancel safety
    ///
    /// As [`Cache::write`](crate::Cache::write).
    pub async fn write<T, E>(
        self,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<T, WriteError<T, E>> {
        let written = self.write_with_token(commit).await?;
        Ok(written.0)
    }

    /// Runs `commit` as [`write`](Self::write) does, and also returns the [`Token`] of what was published, as
    /// [`Cache::write_with_token`](crate::Cache::write_with_token) does.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let accounts = instance
    ///     .cache::<u64, String>("accounts")
    ///     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    ///     .build()?;
    /// let transfer = async { Ok::<_, std::io::Error>(()) }; // from account 7 to account 8
    /// let batch = instance.batch().key(&accounts, &7).key(&accounts, &8);
    /// let ((), token) = batch.write_with_token(transfer).await?;
    /// let account = accounts.get_after(&8, &token).await?; // reflects the transfer, on any instance
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::write`](crate::Cache::write).
    ///
    /// # Cancel safety
    ///
    /// As [`Cache::write`](crate::Cache::write).
    pub async fn write_with_token<T, E>(
        self,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Token), WriteError<T, E>> {
        match self.refused {
            Some(error) => Err(WriteError::Refused(error)),
            None => {
                let member = self.lifeline.member();
                entered(&member.runtime, commit::write(member, self.items, commit)).await
            }
        }
    }

    /// Returns the SQL statement by which a transaction of PostgreSQL itself announces the batch: it commits
    /// and rolls back with the data, needs no Redis, and survives every crash. A relay (`unstale relay`)
    /// publishes it.
    ///
    /// Run it on the transaction's own connection, anywhere before the commit. This instance drops nothing now,
    /// and nothing at the commit: all instances drop the entries when the relay has published them, some
    /// milliseconds later. Without a relay that reads this database nothing is ever dropped.
    /// [`write`](Self::write) drops the writer's own entries at once, needs no relay, and survives crashes too.
    ///
    /// A statement contains hashes, and no key. It has at most 262,144 of them, which are 4 MiB; of a larger
    /// batch, the cache with the most hashes is invalidated as a whole.
    ///
    /// # Errors
    ///
    /// `Settings` if a cache of the batch is of another instance; `Key`: nothing can be cached under such a key.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use unstale::{Instance, Settings};
    /// # let instance = Instance::start(Settings::default()).await?;
    /// # let accounts = instance.cache::<u64, String>("accounts").build()?;
    /// let statement = instance.batch().key(&accounts, &42).in_transaction()?;
    ///
    /// // With a parameter:
    /// assert_eq!(statement.sql(), "SELECT pg_logical_emit_message(true, 'unstale', $1::text)");
    /// assert_eq!(statement.parameter(), r#"["h",[1095501882,1,0,"1217cb28c0ef2191"]]"#);
    ///
    /// // As one text:
    /// assert_eq!(
    ///     statement.to_string(),
    ///     r#"SELECT pg_logical_emit_message(true, 'unstale', '["h",[1095501882,1,0,"1217cb28c0ef2191"]]')"#
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_transaction(self) -> Result<Statement, Error> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok(Statement::new(&self.items)),
        }
    }
}
