//! What a loader returns.

use std::sync::Arc;
use std::time::Duration;

use crate::BoxError;
use crate::bus::BoxFuture;
use crate::key::tag_hash;
use crate::store::entry::Tags;
use crate::store::outcome::Held;

/// What a loader returns when it knows more than the value: its own TTL, or tags.
///
/// Loaders may also return `V` or `Option<V>`, which convert into this. Their error is a
/// [`BoxError`], which `?` makes of any error.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::Loaded;
///
/// let token = Loaded::new("secret".to_owned())
///     .ttl(Duration::from_secs(120)) // this one lives 120 s, whatever the cache's TTL
///     .tag("tenant-7"); // `invalidate_tag("tenant-7")` drops it
/// # let _ = token;
/// ```
#[derive(Clone, Debug)]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<String>,
    pub(crate) as_of: Option<u64>,
    /// Tags that the entry had whose value has not changed.
    kept: Tags,
    unchanged: bool,
}

impl<V> Loaded<V> {
    /// Returns a value, or `None` for "does not exist", with the cache's TTL and without tags.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::Loaded;
    ///
    /// let row: Option<String> = None; // of the database
    /// let account = Loaded::new(row).tag("tenant-7"); // "does not exist" may have tags, too
    /// let price = Loaded::new(995_u64);
    /// ```
    pub fn new(value: impl Into<Option<V>>) -> Self {
        Self {
            value: value.into(),
            ttl: None,
            tags: Vec::new(),
            as_of: None,
            kept: None,
            unchanged: false,
        }
    }

    /// Says that the source still has the value that the loader was given: the entry is renewed as if it were
    /// loaded now, with the tags it had, those that are added here, and the TTL of the cache or of
    /// [`ttl`](Self::ttl). It is for [`loader_with_held`](crate::CacheBuilder::loader_with_held); if nothing
    /// was held, the load fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::{Instance, Loaded};
    ///
    /// let keys = instance
    ///     .cache::<String, (u64, String)>("signing_keys")
    ///     .loader_with_held(|issuer: String, held: Option<(u64, String)>| async move {
    ///         let version = 3; // of the issuer's keys, which costs less to ask for than they do
    ///         Ok(match held {
    ///             Some((known, _)) if known == version => Loaded::unchanged(),
    ///             _ => Loaded::new((version, format!("keys of {issuer}"))),
    ///         })
    ///     })
    ///     .build()?;
    /// assert_eq!(keys.get("corp").await?, Some((3, "keys of corp".to_owned())));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unchanged() -> Self {
        Self {
            unchanged: true,
            ..Self::new(None)
        }
    }

    /// Puts what was held in the place of "unchanged".
    fn or_held(mut self, held: Option<Held<V>>) -> Result<Self, BoxError> {
        if self.unchanged {
            let Some(held) = held else {
                return Err(
                    "it returned `Loaded::unchanged`, but nothing was held for the key".into(),
                );
            };
            (self.value, self.kept, self.unchanged) = (Some(held.value), held.tags, false);
        }
        Ok(self)
    }

    /// Replaces the cache's TTL (or its negative TTL) for this entry.
    ///
    /// A hard limit: neither jitter nor a refresh nor `stale_if_error` serves the entry longer.
    ///
    /// Each instance measures it by its own monotonic clock, from the moment when the load began. A value that
    /// is found in the shared tier has its age from the clock of the Redis server: if that clock is set back
    /// meanwhile, the value may live longer by as much, and by a whole TTL at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use unstale::Loaded;
    ///
    /// let (token, expires_in) = ("t0k3n".to_owned(), 120); // what an OAuth server returns
    /// let token = Loaded::new(token).ttl(Duration::from_secs(expires_in));
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag, for [`invalidate_tag`](crate::Cache::invalidate_tag).
    ///
    /// A tag that is given twice counts once. Each tag takes 8 bytes and is compared on every hit, so that tens
    /// of tags make hits slower; a value with more than 255 is not kept in the shared tier. An empty tag fails
    /// the load: all entries whose rows lack the column would share it. For a tag that only some rows have, see
    /// [`tags`](Self::tags).
    ///
    /// An instance remembers invalidations of tags by 16 bits of their hashes: if 1,000 *other* tags are
    /// invalidated a second, each tag of an entry is hit by one of them every 65 seconds, and the entry is then
    /// loaded again.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::Loaded;
    ///
    /// let sessions = instance
    ///     .cache::<String, u64>("sessions")
    ///     .loader(|_id: String| async {
    ///         let user = 7; // of the session's row
    ///         Ok(Loaded::new(user).tag(format!("user-{user}")))
    ///     })
    ///     .build()?;
    /// sessions.get("s-1").await?;
    /// sessions.invalidate_tag("user-7").await?; // every session of the user
    /// assert_eq!(sessions.peek("s-1"), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds every tag of an iterator: a list of them, or an `Option` for a tag that only some rows have.
    /// Otherwise it is as [`tag`](Self::tag).
    ///
    /// ```
    /// # use unstale::Loaded;
    /// let supplier: Option<u64> = None; // of the row
    /// let product = Loaded::new("lamp".to_owned())
    ///     .tags(supplier.map(|id| format!("supplier-{id}")))
    ///     .tags(["products", "lamps"]);
    /// # let _ = product;
    /// ```
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Says that the value comes from a replica that had replayed the source's log up to this place, so that it
    /// may be older than what was committed since.
    ///
    /// It is for a cache with a [`source`](crate::CacheBuilder::source). The value counts as loaded at the
    /// latest moment that the relay has proven to lie before the place: its TTL and its `max_staleness` count
    /// from then, and after an invalidation that came since it is not stored. If no such moment is known (the
    /// replica lags by more than 64 verifications, half a minute at the default interval, or no relay has
    /// proven anything yet) the value is returned to those who wait for it, and neither stored nor put into the
    /// shared tier. So a hit keeps its bound, and a key that has just changed is loaded at each read until the
    /// replica has the change.
    ///
    /// With PostgreSQL the place is `pg_last_wal_replay_lsn()`, as a number of 64 bits (`pg_wal_lsn_diff(place,
    /// '0/0')`). Ask for it **before** the row, in a statement of its own: one statement sees its rows as they
    /// were when it began, and would read the place later. For a value from the primary do not call it.
    ///
    /// ```
    /// # use unstale::Loaded;
    /// let replayed: u64 = 0x16_B374_D848; // `pg_last_wal_replay_lsn()`, asked for before the row
    /// let product = Loaded::new("lamp".to_owned()).as_of(replayed);
    /// # let _ = product;
    /// ```
    #[doc(alias = "replica")]
    #[must_use]
    pub fn as_of(mut self, place: u64) -> Self {
        self.as_of = Some(place);
        self
    }

    /// The hashes of the tags, each once.
    pub(crate) fn tag_hashes(&self) -> Box<[u64]> {
        let new = self.tags.iter().map(|tag| tag_hash(tag));
        let kept = self.kept.iter().flat_map(|tags| tags.iter().copied());
        let mut hashes: Vec<u64> = new.chain(kept).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.into()
    }

    /// Returns what is wrong with the tags, if anything.
    pub(crate) fn wrong_tags(&self) -> Option<String> {
        let empty = self.tags.iter().any(String::is_empty);
        empty.then(|| {
            "an empty tag; if a row has no tag, add none (`tags` takes an `Option`)".to_owned()
        })
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(Some(value))
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        Self::new(value)
    }
}

/// One run of user code that fetches a value.
pub(crate) type Load<V> = BoxFuture<'static, Result<Loaded<V>, BoxError>>;

/// Looks what is held; called when the load begins.
pub(crate) type LookAtHeld<V> = Box<dyn FnOnce() -> Option<Held<V>> + Send>;

/// A cache's loader.
pub(crate) type Loader<K, V> = dyn Fn(K, LookAtHeld<V>) -> Load<V> + Send + Sync;

/// A loader that is given nothing but the key.
pub(crate) fn plain<K, V, L, F, R>(load: L) -> Arc<Loader<K, V>>
where
    K: Send + 'static,
    V: 'static,
    L: Fn(K) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, BoxError>> + Send + 'static,
    R: Into<Loaded<V>>,
{
    let load = Arc::new(load);
    Arc::new(move |key, _| {
        let load = load.clone();
        // Called at the first poll: what it reads before its first await belongs to the load,
        // which has taken its token by then, and if it panics, it does so in the load's task.
        Box::pin(async move { load(key).await.map(Into::into) })
    })
}

/// A loader that is given what is held.
pub(crate) fn with_held<K, V, L, F, R>(load: L) -> Arc<Loader<K, V>>
where
    K: Send + 'static,
    V: Clone + Send + 'static,
    L: Fn(K, Option<V>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, BoxError>> + Send + 'static,
    R: Into<Loaded<V>>,
{
    let load = Arc::new(load);
    Arc::new(move |key, look: LookAtHeld<V>| {
        let load = load.clone();
        Box::pin(async move {
            let held = look();
            let given = held.as_ref().map(|held| held.value.clone());
            let loaded = load(key, given).await?.into();
            loaded.or_held(held)
        })
    })
}

/// What a batch loader says of each key.
pub(crate) type Answers<K, V> = Vec<(K, Result<Loaded<V>, BoxError>)>;

/// A cache's loader for many keys.
pub(crate) type BatchLoader<K, V> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Answers<K, V>, BoxError>> + Send + Sync;

/// What a [`batch_loader`](crate::CacheBuilder::batch_loader) returns for one key. `V`, `Option<V>`,
/// [`Loaded<V>`] and a `Result` of each of them convert into it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::{Answer, BoxError};
///
/// /// One statement for all of them; what has no row is left out.
/// async fn balances(ids: Vec<u64>) -> Result<Vec<(u64, Answer<i64>)>, BoxError> {
///     let balance = |id: u64| match id {
///         0 => Err("account 0 is locked"),
///         id => Ok(id as i64 * 100),
///     };
///     Ok(ids.into_iter().map(|id| (id, balance(id).into())).collect())
/// }
///
/// let cache = instance.cache::<u64, i64>("balances").batch_loader(balances).build()?;
/// assert_eq!(cache.get_many([7, 8]).await?, [Some(700), Some(800)]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Answer<V>(pub(crate) Result<Loaded<V>, BoxError>);

impl<V> From<V> for Answer<V> {
    fn from(value: V) -> Self {
        Self(Ok(value.into()))
    }
}

impl<V> From<Option<V>> for Answer<V> {
    fn from(value: Option<V>) -> Self {
        Self(Ok(value.into()))
    }
}

impl<V> From<Loaded<V>> for Answer<V> {
    fn from(value: Loaded<V>) -> Self {
        Self(Ok(value))
    }
}

impl<V, E: Into<BoxError>> From<Result<V, E>> for Answer<V> {
    fn from(result: Result<V, E>) -> Self {
        Self(result.map(Into::into).map_err(Into::into))
    }
}

impl<V, E: Into<BoxError>> From<Result<Option<V>, E>> for Answer<V> {
    fn from(result: Result<Option<V>, E>) -> Self {
        Self(result.map(Into::into).map_err(Into::into))
    }
}

impl<V, E: Into<BoxError>> From<Result<Loaded<V>, E>> for Answer<V> {
    fn from(result: Result<Loaded<V>, E>) -> Self {
        Self(result.map_err(Into::into))
    }
}
