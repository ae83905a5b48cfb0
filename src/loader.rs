//! What a loader returns.

use std::time::Duration;

use crate::BoxError;
use crate::bus::BoxFuture;

/// Tags an entry may have: each is compared on every hit.
pub const MAX_TAGS: usize = 8;

/// What a loader returns when it knows more than the value: its own TTL, or tags.
///
/// Loaders may also return `V` or `Option<V>`, which convert into this.
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

    /// Adds a tag, for `invalidate_tag`; at most [`MAX_TAGS`] an entry, more fail the load.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
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
