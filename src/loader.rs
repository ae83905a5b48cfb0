//! What a loader returns.

use std::time::Duration;

use crate::BoxError;
use crate::bus::BoxFuture;

/// Tags an entry may have: each is compared on every hit.
pub const MAX_TAGS: usize = 8;

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
}

impl<V> Loaded<V> {
    /// A value, or `None` for "does not exist".
    pub fn new(value: impl Into<Option<V>>) -> Self {
        Self {
            value: value.into(),
            ttl: None,
            tags: Vec::new(),
        }
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
    /// At most [`MAX_TAGS`] an entry: more fail the load. So does an empty tag, which every entry
    /// whose row lacks the column would share.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds every tag of an iterator: a list of them, or an `Option` for a tag that only some rows
    /// have. Limits as for [`tag`](Self::tag).
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

    /// Returns what is wrong with the tags, if anything.
    pub(crate) fn wrong_tags(&self) -> Option<String> {
        let count = self.tags.len();
        if count > MAX_TAGS {
            return Some(format!("{count} tags; an entry has at most {MAX_TAGS}"));
        }
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

/// A cache's loader.
pub(crate) type Loader<K, V> = dyn Fn(K) -> Load<V> + Send + Sync;

/// A cache's loader for many keys.
pub(crate) type BatchLoader<K, V> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<(K, Loaded<V>)>, BoxError>> + Send + Sync;
