//! The options that are settings too: code sets the value of one cache, variables override it.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::builder::CacheBuilder;
use crate::key::Key;
use crate::settings::{RefreshAhead, Switch};

impl<K, V> CacheBuilder<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Sets the maximum lifetime of an entry; jitter only shortens it. Defaults to 60 s.
    #[doc(alias = "time_to_live")]
    #[doc(alias = "expire_after_write")]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.code.ttl = Some(ttl);
        self
    }

    /// Sets how long "does not exist" is remembered. Defaults to 5 s.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.code.negative_ttl = Some(ttl);
        self
    }

    /// Sets the maximum number of entries that say "does not exist", beside those of
    /// [`capacity`](Self::capacity); `None` for as many. Requests for unknown keys push nothing out that
    /// exists. Defaults to as many as `capacity`.
    pub fn negative_capacity(mut self, entries: impl Into<Switch<usize>>) -> Self {
        self.code.negative_capacity = Some(entries.into());
        self
    }

    /// Sets the share of the TTL, 0 to 0.9, by which an entry may live shorter, so that entries loaded
    /// together do not expire together. Defaults to 0.1.
    pub fn ttl_jitter(mut self, part: f64) -> Self {
        self.code.ttl_jitter = Some(part);
        self
    }

    /// Sets the maximum age of a hit after its invalidation was published, whatever fails; `None` is
    /// TTL only. Defaults to 2 s.
    pub fn max_staleness(mut self, bound: impl Into<Switch<Duration>>) -> Self {
        self.code.max_staleness = Some(bound.into());
        self
    }

    /// Sets the maximum number of entries. Defaults to 10,000.
    #[doc(alias = "max_capacity")]
    #[doc(alias = "maximum_size")]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.code.capacity = Some(entries);
        self
    }

    /// Sets the source of truth that a relay watches, by the name that its rules give it. Defaults to none.
    ///
    /// A hit is then never older than `max_staleness` after its *commit*, whatever wrote it: `unstale relay` reads
    /// the database's own log, publishes what changed, and proves that it has. Without a relay, or while it is
    /// away, an entry is served for `max_staleness` after its load and then loaded again.
    ///
    /// The loader must read from the primary of that database.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let orders = instance
    ///     .cache::<u64, String>("orders")
    ///     .source("shop")
    ///     .loader(|id: u64| async move { Ok(format!("order {id}")) })
    ///     .build()?;
    /// # let _ = orders;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "cdc")]
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.code.source = Some(Switch::On(name.into()));
        self
    }

    /// Sets how many bytes an entry takes, for [`max_bytes`](Self::max_bytes) and its variables.
    /// Defaults to none: the cache has no bound in bytes.
    ///
    /// A weigher that panics makes its value too large to be stored.
    ///
    /// ```
    /// # use unstale::{Error, Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let pages = instance
    ///     .cache::<u64, String>("pages")
    ///     .loader(|id: u64| async move { Ok(format!("page {id}")) })
    ///     .weigher(|_, page| page.len() as u64)
    ///     .max_bytes(64 << 20)
    ///     .build()?;
    /// # let _ = pages;
    /// # Ok(())
    /// # }
    /// ```
    pub fn weigher(mut self, weigh: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigh));
        self
    }

    /// Sets the maximum number of bytes, as the [`weigher`](Self::weigher) counts them; it needs
    /// one. Defaults to no bound.
    ///
    /// The tags of an entry count 8 bytes each. An entry fits if it takes at most a fifth of the bytes, or 6 MiB
    /// where that is less: whatever machine it runs on. A larger one is served but not stored, counted
    /// (`unstale_oversized_total`), and the first is logged. What is known not to exist has a tenth of the
    /// bytes, and takes its key's and 64.
    #[doc(alias = "weigher")]
    #[doc(alias = "maximum_weight")]
    pub fn max_bytes(mut self, bytes: impl Into<Switch<u64>>) -> Self {
        self.code.max_bytes = Some(bytes.into());
        self
    }

    /// Sets when a hit starts one reload in the background, so that no read waits for a value that
    /// is read all the time: after a share of the entry's life (`0.8`), or a time before its end
    /// (a `Duration`), which counts at most half of its life; `None` never. Defaults to never.
    ///
    /// A reload ahead never prolongs a life. One that fails changes nothing, and the next one starts
    /// a second later at the earliest.
    #[doc(alias = "eager_refresh")]
    #[doc(alias = "refresh_after_write")]
    pub fn refresh_ahead(mut self, when: impl Into<Switch<RefreshAhead>>) -> Self {
        self.code.refresh_ahead = Some(when.into());
        self
    }

    /// Sets how long past its TTL an entry may be served when its loader fails; `None` not at all. It
    /// relaxes the TTL only, never the promise: not after an invalidation, not unverified, not past
    /// a TTL that came with the value. Defaults to not at all.
    #[doc(alias = "fail_safe")]
    pub fn stale_if_error(mut self, window: impl Into<Switch<Duration>>) -> Self {
        self.code.stale_if_error = Some(window.into());
        self
    }

    /// Sets how long a read waits for a load before an expired entry answers it; `None` until the load ends.
    /// It takes [`stale_if_error`](Self::stale_if_error), which says how long past its TTL an entry may be
    /// served, and relaxes no more than that. The load goes on, and reads of the key that come while it does are
    /// answered at once. So are reads whose source has just failed: see [`error_ttl`](Self::error_ttl).
    /// Defaults to 250 ms.
    #[doc(alias = "soft_timeout")]
    pub fn stale_if_slow(mut self, after: impl Into<Switch<Duration>>) -> Self {
        self.code.stale_if_slow = Some(after.into());
        self
    }

    /// Sets how long the error of a load answers further reads of its key, before the source is asked again:
    /// a source that has just failed is not asked by every reader. Where
    /// [`stale_if_error`](Self::stale_if_error) lets an expired entry stand in, that answers instead. After it
    /// one read asks; those that come while it does are answered as before, and it waits for
    /// [`stale_if_slow`](Self::stale_if_slow) at most. An invalidation ends it, a zero `error_ttl` keeps no error, and a read that brings its own load
    /// ([`Cache::get_with`](crate::Cache::get_with)) asks in any case. At most 65,536 errors are kept.
    /// Defaults to 1 s.
    #[doc(alias = "negative_caching")]
    #[doc(alias = "throttle")]
    pub fn error_ttl(mut self, ttl: Duration) -> Self {
        self.code.error_ttl = Some(ttl);
        self
    }

    /// Sets whether an answer "does not exist" is confirmed before it is given, unless this call's own load
    /// has found it: as [`get_latest`](crate::Cache::get_latest) does, for one round trip to Redis, which
    /// all such reads of the moment share. Values are served from memory as ever. Defaults to off.
    ///
    /// For caches where a wrong "no" is an error that users see: another instance has created an API key,
    /// its event is on its way, and a request with the key must not get a 401.
    ///
    /// ```
    /// # use unstale::{Error, Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let keys = instance
    ///     .cache::<String, u64>("api_keys")
    ///     .loader(|key: String| async move { Ok((key == "good").then_some(7)) })
    ///     .confirm_absent(true)
    ///     .build()?;
    /// assert_eq!(keys.get("bad").await?, None);
    /// assert_eq!(keys.get("bad").await?, None); // from memory, and Redis was asked
    /// # Ok(())
    /// # }
    /// ```
    pub fn confirm_absent(mut self, confirm: bool) -> Self {
        self.code.confirm_absent = Some(confirm);
        self
    }

    /// Sets the deadline of one load, and of waiting for a place among `max_loads`. Defaults to 5 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.code.load_timeout = Some(timeout);
        self
    }

    /// Sets the maximum number of loads that run at once. Defaults to 64.
    pub fn max_loads(mut self, loads: usize) -> Self {
        self.code.max_loads = Some(loads);
        self
    }

    /// Sets the maximum rate, per second, of loads for unknown keys that find nothing, so that
    /// requests for made-up keys cannot wear the source out. At most a second's worth may run at
    /// once; a load that fails counts too. Above it, a read of an unknown key fails at once with
    /// [`Limited`](crate::ErrorKind::Limited), and is counted
    /// (`unstale_loads_total{outcome="limited"}`). Defaults to `None`, no limit.
    ///
    /// Memory knows a key that it holds, has loaded before (about twice `capacity` of them are
    /// remembered, whatever became of their entries), or has heard of by an invalidation, as of a
    /// key that was just created: such keys are never refused, and loads that find a value cost
    /// nothing. What is remembered as absent is served as ever. The limit stands before the
    /// source, not before the shared tier, and each instance counts for itself.
    ///
    /// ```
    /// # use unstale::{Error, Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let keys = instance
    ///     .cache::<String, u64>("api_keys")
    ///     .loader(|key: String| async move { Ok((key == "good").then_some(7)) })
    ///     .unknown_loads(1)
    ///     .build()?;
    /// assert_eq!(keys.get("bad").await?, None); // this one was looked for
    /// assert!(keys.get("worse").await.is_err()); // and this one was not
    /// assert_eq!(keys.get("bad").await?, None); // it is remembered
    /// # Ok(())
    /// # }
    /// ```
    pub fn unknown_loads(mut self, per_second: impl Into<Switch<u32>>) -> Self {
        self.code.unknown_loads = Some(per_second.into());
        self
    }

    /// Sets the interval at which expired entries are freed; `None` never. Defaults to 1 s.
    pub fn reap_interval(mut self, interval: impl Into<Switch<Duration>>) -> Self {
        self.code.reap_interval = Some(interval.into());
        self
    }
}
