//! The types of values that have more than a number to say.

use std::time::Duration;

/// An override of a setting that can be off.
///
/// Options of [`CacheBuilder`](crate::CacheBuilder) take the value itself, an `Option` of it or a
/// `Switch`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::{CacheSettings, Switch};
///
/// let mut accounts = CacheSettings::default(); // overrides nothing
/// accounts.max_staleness = Some(Switch::On(Duration::from_secs(5)));
/// accounts.reap_interval = Some(Switch::Off);
/// assert_eq!(Switch::from(None), Switch::<u32>::Off);
/// assert_eq!(Switch::from(7).into_option(), Some(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch<T> {
    /// The setting is off, whatever the default for all caches is.
    Off,
    /// The setting has this value.
    On(T),
}

impl<T> Switch<T> {
    /// Returns the value, or `None` if the setting is off.
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T> From<T> for Switch<T> {
    fn from(value: T) -> Self {
        Self::On(value)
    }
}

/// `None` is off.
impl<T> From<Option<T>> for Switch<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::On)
    }
}

/// When a hit starts one reload in the background, so that no read waits for it.
///
/// In a variable, `0.8` is a share and `30s` a time before the end.
/// A reload ahead never prolongs a life. One that fails changes nothing, and the next one starts a
/// second later at the earliest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RefreshAhead {
    /// After this share of the entry's life, above 0 and below 1.
    Share(f64),
    /// So long before the entry's end, but not in the first half of its life: with 300 s, an entry
    /// that lives 7,200 s is due in its last 300 s, and one that lives 120 s in its last 60 s.
    Before(Duration),
}

impl From<f64> for Switch<RefreshAhead> {
    fn from(share: f64) -> Self {
        Self::On(RefreshAhead::Share(share))
    }
}

impl From<Duration> for Switch<RefreshAhead> {
    fn from(before_end: Duration) -> Self {
        Self::On(RefreshAhead::Before(before_end))
    }
}

/// What a write does when it cannot be announced to Redis before its commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WritePolicy {
    /// It is refused, and nothing is committed: no peer can become stale.
    #[default]
    Strict,
    /// It commits and is counted: peers may serve the old value until Redis is reachable again, at
    /// most for a TTL.
    Available,
}

/// At which server the events of the fleet are subscribed to.
///
/// In a variable, `primary`, `replicas` or `redis-reader.example:6379`.
/// Redis writes an event to each subscriber by itself, so a primary with many instances has less to do where
/// they subscribe at its replicas. An event that a replica delivers late, or not at all, is found missing by
/// the next verification, which asks the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscribeAt {
    /// The primary of each lane.
    #[default]
    Primary,
    /// A replica of it, as `INFO` there lists them; the primary, while none can be reached.
    Replicas,
    /// This host and port, such as the endpoint for readers of a managed Redis, which `redis://` alone
    /// allows; the primary, while it cannot be reached.
    Server(String),
}

/// A default for all caches that is set, but has no effect in one cache.
///
/// In [`Health::hidden_settings`](crate::Health::hidden_settings).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HiddenSetting {
    /// The cache's name.
    pub cache: String,
    /// What is set: a variable such as `UNSTALE_TTL`, a path and a name in that file, or, if set in
    /// code, the field of [`Settings`](crate::Settings).
    pub setting: String,
    /// Its value.
    pub value: String,
    /// Why it has no effect, and what would.
    pub reason: String,
}
