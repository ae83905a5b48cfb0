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
    /// A value, or `None` for "does not exist".
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

    /// The value that the loader was given is what the source has: it is as though it had been loaded now, with
    /// the tags it had, those added here, and the TTL of the cache or of [`ttl`](Self::ttl). For
    /// [`loader_with_held`](crate::CacheBuilder::loader_with_held); where nothing was held it fails the load.
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
                return Err("it says unchanged, and it was given nothing that could be".into());
            };
            (self.value, self.kept, self.unchanged) = (Some(held.value), held.tags, false);
        }
        Ok(self)
    }

    /// Replaces the cache's TTL (or its negative TTL) for this entry.
    ///
    /// A hard limit: neither jitter nor a refresh nor `stale_if_error` serves the entry longer.
    ///
    /// Each instance measures it by its own monotonic clock, from the moment when the load began. A
    /// value that is found in the shared tier has its age from the clock of the Redis server: by as
    /// much as that is set back meanwhile, the value may live longer, and never longer than a whole
    /// TTL more.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag, for `invalidate_tag`.
    ///
    /// A tag that is given twice counts once. Each takes 8 bytes and is compared on every hit, which tens of
    /// them make slower; a value with more than 255 is not kept in the shared tier. An empty tag, which every
    /// entry whose row lacks the column would share, fails the load.
    ///
    /// An instance remembers invalidations of tags by 16 bits of their hashes: where 1,000 *other* tags are
    /// invalidated a second, one in 65 seconds meets each tag of an entry, which is then loaded again.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds every tag of an iterator: a list of them, or an `Option` for a tag that only some rows
    /// have. As [`tag`](Self::tag).
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

    /// The value comes from a replica that had replayed the source's log up to this place, and may be older than what
    /// was committed since.
    ///
    /// For a cache with a [`source`](crate::CacheBuilder::source). The value is as old as the latest moment of which the
    /// relay has proven that it lies before the place: its TTL and its `max_staleness` count from then, and an
    /// invalidation that came since keeps it from being stored. Where no moment is known (the replica lags by more than
    /// 64 verifications, half a minute at the default interval, or no relay has proven anything yet) the value is
    /// returned to those who wait for it, and neither stored nor put into the shared tier. So a hit keeps its bound, and a
    /// key that has just changed is loaded at each read until the replica has the change.
    ///
    /// With PostgreSQL the place is `pg_last_wal_replay_lsn()`, as a number of 64 bits (`pg_wal_lsn_diff(place, '0/0')`).
    /// Ask for it **before** the row, in a statement of its own: one statement sees its rows as they were when it
    /// began, and would read the place later. On a primary use none.
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
            "an empty tag; where a row has none, add none (`tags` takes an `Option`)".to_owned()
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

/// What a [`batch_loader`](crate::CacheBuilder::batch_loader) says of one key. `V`, `Option<V>`,
/// [`Loaded<V>`] and a `Result` of each of them convert into it.
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
