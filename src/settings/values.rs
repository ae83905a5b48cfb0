//! The types of values that are more than a number or a text.

use std::time::Duration;

/// The override of a setting that can be off, for one cache.
///
/// In [`CacheSettings`](crate::CacheSettings), `None` overrides nothing, `Some(Switch::Off)` turns the
/// setting off, and `Some(Switch::On(value))` sets it.
/// Options of [`CacheBuilder`](crate::CacheBuilder) take the value itself, an `Option` of it or a
/// `Switch`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::{CacheSettings, Switch};
///
/// let mut accounts = CacheSettings::default();
/// accounts.max_staleness = Some(Switch::On(Duration::from_secs(5)));
/// accounts.reap_interval = Some(Switch::Off);
/// assert_eq!(Switch::from(None), Switch::<u32>::Off);
/// assert_eq!(Switch::from(7).into_option(), Some(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch<T> {
    /// Turns the setting off, whatever the default for all caches is.
    Off,
    /// Sets this value.
    On(T),
}

impl<T> Switch<T> {
    /// Returns the value, or `None` if the setting is off.
    ///
    /// # Examples
    ///
    /// ```
    /// use unstale::Switch;
    ///
    /// assert_eq!(Switch::On(7).into_option(), Some(7));
    /// assert_eq!(Switch::<u32>::Off.into_option(), None);
    /// ```
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

/// `None` means off.
impl<T> From<Option<T>> for Switch<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::On)
    }
}

/// When a hit starts one reload in the background, so that no read waits for the load.
///
/// In a variable, `0.8` is a share of the lifetime and `30s` is a time before its end.
/// An entry lives no longer because its reload has started. A reload that fails changes nothing, and the
/// next one starts a second later at the earliest.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::{RefreshAhead, Settings};
///
/// # fn main() -> Result<(), unstale::Error> {
/// let mut settings = Settings::default();
/// settings.refresh_ahead = Some(RefreshAhead::Before(Duration::from_secs(30)));
/// settings.validate()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RefreshAhead {
    /// After this share of the entry's lifetime, above 0 and below 1.
    Share(f64),
    /// This long before the entry's end, but not in the first half of its lifetime. With 300 s, an
    /// entry that lives 7,200 s is reloaded in its last 300 s, and one that lives 120 s in its last 60 s.
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

/// What a write does when it cannot be announced in Redis before its commit.
///
/// # Examples
///
/// ```
/// use unstale::{Settings, WritePolicy};
///
/// let mut settings = Settings::default();
/// assert_eq!(settings.write_policy, WritePolicy::Strict);
/// settings.write_policy = WritePolicy::Available;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WritePolicy {
    /// The write is refused and nothing is committed, so no other instance can become stale.
    #[default]
    Strict,
    /// The write commits and is counted (`unstale_writes_total{outcome="unannounced"}`). Other instances
    /// may serve the old value until Redis is reachable again, for at most a TTL.
    Available,
}

/// The server at which instances subscribe to the events of the fleet.
///
/// In a variable, it is written `primary`, `replicas` or `redis-reader.example:6379`.
/// Redis writes each event to each subscriber, so a primary with many instances has less to do if they
/// subscribe at its replicas. If a replica delivers an event late or not at all, the next verification, which
/// asks the primary, finds that it is missing.
///
/// # Examples
///
/// ```
/// use unstale::{Settings, SubscribeAt};
///
/// let mut settings = Settings::default();
/// assert_eq!(settings.subscribe_at, SubscribeAt::Primary);
/// settings.subscribe_at = SubscribeAt::Server("redis-reader.example:6379".into());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscribeAt {
    /// The primary of each lane.
    #[default]
    Primary,
    /// A replica that `INFO` of the primary lists, or the primary while no replica can be reached.
    Replicas,
    /// This host and port, such as the endpoint for readers of a managed Redis, or the primary while it
    /// cannot be reached. Only `redis://` and `rediss://` allow it.
    Server(String),
}

/// A default for all caches that is set but has no effect in one cache.
///
/// [`Health::hidden_settings`](crate::Health::hidden_settings) lists them, and each is logged once when
/// the cache is built.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use unstale::{Instance, LocalBus, Settings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), unstale::Error> {
/// let vars = [("UNSTALE_TTL".to_string(), "30s".to_string())];
/// let instance = Instance::start_on(&LocalBus::default(), Settings::from_vars(vars)?).await?;
/// let cache = instance.cache::<u64, String>("accounts").ttl(Duration::from_secs(300)).build()?;
///
/// let hidden = &instance.health().hidden_settings[0];
/// assert_eq!((hidden.cache.as_str(), hidden.setting.as_str()), ("accounts", "UNSTALE_TTL"));
/// # drop(cache);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HiddenSetting {
    /// The cache's name.
    pub cache: String,
    /// What is set: a variable such as `UNSTALE_TTL`, a file and the name in it, or a field of
    /// [`Settings`](crate::Settings) that code has set.
    pub setting: String,
    /// The value that has no effect.
    pub value: String,
    /// Why it has no effect, and what would have one.
    pub reason: String,
}
