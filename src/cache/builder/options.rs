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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .ttl(Duration::from_secs(600)) // for writers that do not invalidate
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "time_to_live")]
    #[doc(alias = "expire_after_write")]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.code.ttl = Some(ttl);
        self
    }

    /// Sets how long "does not exist" is remembered. Defaults to 5 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let api_keys = instance
    ///     .cache::<String, u64>("api_keys")
    ///     .loader(|key: String| async move { Ok((key == "good").then_some(7)) })
    ///     .negative_ttl(Duration::from_secs(30))
    ///     .build()?;
    /// assert_eq!(api_keys.get("bad").await?, None); // remembered for 30 s, unless it is invalidated
    /// # Ok(())
    /// # }
    /// ```
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.code.negative_ttl = Some(ttl);
        self
    }

    /// Sets the maximum number of entries that say "does not exist", in addition to the entries of
    /// [`capacity`](Self::capacity); `None` for as many as `capacity`. So requests for unknown keys evict
    /// nothing that exists. Defaults to as many as `capacity`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let api_keys = instance
    ///     .cache::<String, u64>("api_keys")
    ///     .loader(|key: String| async move { Ok((key == "good").then_some(7)) })
    ///     .negative_capacity(1_000)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn negative_capacity(mut self, entries: impl Into<Switch<usize>>) -> Self {
        self.code.negative_capacity = Some(entries.into());
        self
    }

    /// Sets the share of the TTL, 0 to 0.9, by which an entry may live shorter, so that entries loaded
    /// together do not expire together. Defaults to 0.1.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .ttl(Duration::from_secs(600))
    ///     .ttl_jitter(0.5) // lives 300 to 600 s
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ttl_jitter(mut self, part: f64) -> Self {
        self.code.ttl_jitter = Some(part);
        self
    }

    /// Sets for how long, at most, a hit may still return the old value after its invalidation was published,
    /// whatever fails. `None` leaves only the TTL. Defaults to 2 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .max_staleness(Duration::from_secs(1))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_staleness(mut self, bound: impl Into<Switch<Duration>>) -> Self {
        self.code.max_staleness = Some(bound.into());
        self
    }

    /// Sets the maximum number of entries. Defaults to 10,000.
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
    ///     .capacity(100_000)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "max_capacity")]
    #[doc(alias = "maximum_size")]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.code.capacity = Some(entries);
        self
    }

    /// Sets the source of truth that a relay watches, by the name that its rules give it. Defaults to none.
    ///
    /// Once a change is *committed*, by whatever program, no hit returns the old value for longer than
    /// `max_staleness`: `unstale relay` reads the database's own log, publishes what changed, and proves that
    /// it has published all of it. Without a relay, or while the relay is away, an entry is served for
    /// `max_staleness` after its load and then loaded again.
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

    /// Sets the maximum number of bytes, as the [`weigher`](Self::weigher) counts them; it needs a weigher.
    /// Defaults to no bound.
    ///
    /// The tags of an entry count 8 bytes each. An entry fits if it takes at most a fifth of the bytes, or 6
    /// MiB if that is less, on every machine. A larger one is served but not stored; it is counted
    /// (`unstale_oversized_total`), and the first one is logged. Entries that say "does not exist" have a tenth
    /// of the bytes, and each takes the bytes of its key and 64.
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
    ///     .weigher(|_, name| name.len() as u64)
    ///     .max_bytes(64 << 20) // 64 MiB
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "weigher")]
    #[doc(alias = "maximum_weight")]
    pub fn max_bytes(mut self, bytes: impl Into<Switch<u64>>) -> Self {
        self.code.max_bytes = Some(bytes.into());
        self
    }

    /// Sets when a hit starts one reload in the background, so that no read waits for a value that is read all
    /// the time: after a share of the entry's life (`0.8`), or a time before its end (a `Duration`), but not in
    /// the first half of its life; `None` never. Defaults to never.
    ///
    /// A reload ahead does not extend the life of the entry. If it fails, nothing changes, and the next one
    /// starts a second later at the earliest.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .ttl(Duration::from_secs(600))
    ///     .refresh_ahead(Duration::from_secs(60)) // a hit in the last minute starts a reload
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "eager_refresh")]
    #[doc(alias = "refresh_after_write")]
    pub fn refresh_ahead(mut self, when: impl Into<Switch<RefreshAhead>>) -> Self {
        self.code.refresh_ahead = Some(when.into());
        self
    }

    /// Sets for how long past its TTL an entry may be served when its loader fails; `None` is not at all. It
    /// relaxes only the TTL, never the promise: an entry that is invalidated, that is not verified in time, or
    /// that is past a TTL of its own is not served. Defaults to not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .stale_if_error(Duration::from_secs(3_600)) // the database may be away for an hour
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "fail_safe")]
    pub fn stale_if_error(mut self, window: impl Into<Switch<Duration>>) -> Self {
        self.code.stale_if_error = Some(window.into());
        self
    }

    /// Sets for how long a read waits for a load before an expired entry answers it; `None` is until the load
    /// ends. It needs [`stale_if_error`](Self::stale_if_error), which says for how long past its TTL an entry
    /// may be served, and relaxes nothing else. The load goes on, and further reads of the key are answered at
    /// once while it does. So are reads whose source has just failed: see [`error_ttl`](Self::error_ttl).
    /// Defaults to 250 ms.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
    ///     .stale_if_error(Duration::from_secs(3_600))
    ///     .stale_if_slow(Duration::from_millis(50)) // no read of an expired price waits longer
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "soft_timeout")]
    pub fn stale_if_slow(mut self, after: impl Into<Switch<Duration>>) -> Self {
        self.code.stale_if_slow = Some(after.into());
        self
    }

    /// Sets for how long the error of a load answers further reads of its key before the source is asked again,
    /// so that not every reader asks a source that has just failed. If [`stale_if_error`](Self::stale_if_error)
    /// lets an expired entry be served, that entry answers instead of the error. When the time is over, one
    /// read asks the source and waits for [`stale_if_slow`](Self::stale_if_slow) at most; other reads are
    /// answered as before until that load ends. An invalidation ends the time, and a read that brings its own
    /// load ([`Cache::get_with`](crate::Cache::get_with)) always asks. With a zero `error_ttl` no error is
    /// kept. At most 65,536 errors are kept. Defaults to 1 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let balances = instance
    ///     .cache::<u64, u64>("balances")
    ///     .loader(|_: u64| async { Err::<u64, _>("the database is away".into()) })
    ///     .error_ttl(Duration::from_secs(5))
    ///     .build()?;
    /// assert!(balances.get(&7).await.is_err());
    /// assert!(balances.get(&7).await.is_err()); // the same error: the database was asked once
    /// assert_eq!(balances.stats().loads, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "negative_caching")]
    #[doc(alias = "throttle")]
    pub fn error_ttl(mut self, ttl: Duration) -> Self {
        self.code.error_ttl = Some(ttl);
        self
    }

    /// Sets whether the answer "does not exist" is confirmed before it is returned, unless it comes from this
    /// call's own load. Confirming takes one round trip to Redis, as [`get_latest`](crate::Cache::get_latest)
    /// does, which concurrent reads share. Values are still served from memory. Defaults to off.
    ///
    /// It is for caches where a wrong "no" is an error that users see: another instance has created an API key,
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let accounts = instance
    ///     .cache::<u64, String>("accounts")
    ///     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    ///     .load_timeout(Duration::from_millis(800)) // below the deadline of a request
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.code.load_timeout = Some(timeout);
        self
    }

    /// Sets the maximum number of loads that run at once. Defaults to 64.
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
    ///     .max_loads(16) // connections that the pool has to spare
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_loads(mut self, loads: usize) -> Self {
        self.code.max_loads = Some(loads);
        self
    }

    /// Sets the maximum rate, per second, of loads for unknown keys that find nothing, so that requests for
    /// made-up keys cannot overload the source. At most a second's worth may run at once; a load that fails
    /// counts too. Above the limit, a read of an unknown key fails at once with
    /// [`Limited`](crate::ErrorKind::Limited), and is counted (`unstale_loads_total{outcome="limited"}`).
    /// Defaults to `None`, no limit.
    ///
    /// A key is known if memory holds it, if it was loaded before (about twice `capacity` of them are
    /// remembered, even after their entries are gone), or if an invalidation has named it, as that of a key
    /// that was just created. Known keys are never refused, and loads that find a value do not count. A
    /// remembered "does not exist" is still served. The limit protects the source, not the shared tier, and
    /// each instance counts for itself.
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::time::Duration;
    ///
    /// let accounts = instance
    ///     .cache::<u64, String>("accounts")
    ///     .loader(|id: u64| async move { Ok(format!("account {id}")) })
    ///     .reap_interval(Duration::from_secs(10))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn reap_interval(mut self, interval: impl Into<Switch<Duration>>) -> Self {
        self.code.reap_interval = Some(interval.into());
        self
    }
}
