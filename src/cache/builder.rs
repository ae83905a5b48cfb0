//! Options of one cache.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::cache::Cache;
use crate::cache::audit::{Audit, Same};
use crate::cache::inner::{Inner, Weigher};
use crate::cache::refresh::Pauses;
use crate::cache::registration::Registration;
use crate::cache::tier::Tier;
use crate::cache::unknown::UnknownLoads;
use crate::contain::Contain;
use crate::core::{Core, Target};
use crate::flight::Flights;
use crate::instance::Lifeline;
use crate::key::cache_id;
use crate::loader::{BatchLoader, Loaded, Loader};
use crate::metrics::CacheInfo;
use crate::settings::{CacheOptions, CacheSettings};
use crate::store::refresh::Refresh;
use crate::store::{Store, StoreOptions, reaper};
use crate::time::nanos;
use crate::{BoxError, Error, ErrorKind, Key};

/// Options of one cache; begin with [`Instance::cache`](crate::Instance::cache).
///
/// Operators have the last word: a cache's variable (`UNSTALE_CACHES__<NAME>__TTL`) wins over these
/// calls, these over the global variable (`UNSTALE_TTL`), that over the default.
#[must_use]
pub struct CacheBuilder<K, V> {
    lifeline: Arc<Lifeline>,
    name: String,
    code: CacheSettings,
    loader: Option<Arc<Loader<K, V>>>,
    batch_loader: Option<Arc<BatchLoader<K, V>>>,
    weigher: Option<Arc<Weigher<K, V>>>,
    same: Option<Box<Same<V>>>,
    #[cfg(feature = "shared")]
    shared: Option<crate::Shared<V>>,
    entry: PhantomData<fn(K) -> V>,
}

impl<K, V> std::fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<K, V> CacheBuilder<K, V>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(lifeline: Arc<Lifeline>, name: &str) -> Self {
        Self {
            lifeline,
            name: name.to_owned(),
            code: CacheSettings::default(),
            loader: None,
            batch_loader: None,
            weigher: None,
            same: None,
            #[cfg(feature = "shared")]
            shared: None,
            entry: PhantomData,
        }
    }

    /// How to fetch a value. Return `V`, `Option<V>` (`None`: it does not exist) or
    /// [`Loaded<V>`](Loaded), which carries its own TTL and tags. Defaults to none: every read
    /// then brings its own load ([`Cache::get_with`]).
    ///
    /// It runs in a task of its own, with `load_timeout` as its deadline, and must see what was
    /// committed before it began: read from the primary, not from a replica that lags.
    pub fn loader<L, F, R, E>(mut self, load: L) -> Self
    where
        L: Fn(K) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        let load = Arc::new(load);
        self.loader = Some(Arc::new(move |key| {
            let load = load.clone();
            // Called at the first poll: what it reads before its first await belongs to the load,
            // which has taken its token by then, and if it panics, it does so in the load's task.
            Box::pin(async move { load(key).await.map(Into::into).map_err(Into::into) })
        }));
        self
    }

    /// One call for all keys that [`Cache::get_many`] and [`Cache::preload`] miss. Answers may come
    /// in any order; a key left out does not exist. Defaults to the loader, once for each key; without a
    /// loader, a single read is a batch of one.
    pub fn batch_loader<L, F, R, E>(mut self, load: L) -> Self
    where
        L: Fn(Vec<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, R)>, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        self.batch_loader = Some(Arc::new(move |keys| {
            let loading = load(keys);
            Box::pin(async move {
                let pairs = loading.await.map_err(Into::into)?;
                Ok(pairs
                    .into_iter()
                    .map(|(key, value)| (key, value.into()))
                    .collect())
            })
        }));
        self
    }

    /// Longest life of an entry; jitter only shortens it. Defaults to 60 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.code.ttl = Some(ttl);
        self
    }

    /// How long "does not exist" is remembered. Defaults to 5 s.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.code.negative_ttl = Some(ttl);
        self
    }

    /// The part of the TTL, 0 to 0.9, by which an entry may live shorter, so that entries loaded
    /// together do not expire together. Defaults to 0.1.
    pub fn ttl_jitter(mut self, part: f64) -> Self {
        self.code.ttl_jitter = Some(part);
        self
    }

    /// How old a hit may be after its invalidation was published, whatever fails; `None` is TTL
    /// only. Defaults to 2 s.
    pub fn max_staleness(mut self, bound: impl Into<Option<Duration>>) -> Self {
        self.code.max_staleness = Some(bound.into());
        self
    }

    /// Most entries held. Defaults to 10,000.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.code.capacity = Some(entries);
        self
    }

    /// Bounds bytes as well; `weigh` says how many an entry takes. An entry too large for its part
    /// of the store is served but not stored, and counted (`unstale_oversized_total`). What is known
    /// not to exist has a tenth of the bytes, and takes its key's and 64. Defaults to no bound.
    pub fn max_bytes(
        mut self,
        bytes: u64,
        weigh: impl Fn(&K, &V) -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.code.max_bytes = Some(Some(bytes));
        self.weigher = Some(Arc::new(weigh));
        self
    }

    /// The part of an entry's life, 0 to 1, after which a hit starts one reload in the background;
    /// `None` never. Defaults to never.
    pub fn refresh_ahead(mut self, part: impl Into<Option<f64>>) -> Self {
        self.code.refresh_ahead = Some(part.into());
        self
    }

    /// The time before an entry's end from which on a hit starts one reload in the background, so that
    /// nobody waits for a value that is asked for all the time; `None` never. Defaults to never.
    ///
    /// It counts at most half of the entry's life: with a margin of 300 s a token that lives 7,200 s
    /// is reloaded in its last 300 s, and one that lives 120 s in its last 60 s. It never prolongs a
    /// life. With [`refresh_ahead`](Self::refresh_ahead) the earlier wins. A reload that fails changes
    /// nothing, and is tried again after a second at the earliest.
    pub fn refresh_before(mut self, margin: impl Into<Option<Duration>>) -> Self {
        self.code.refresh_before = Some(margin.into());
        self
    }

    /// How long past its TTL an entry may be served when its loader fails; `None` not at all. It
    /// relaxes the TTL only, never the promise: not after an invalidation, not unverified, not past
    /// a TTL that came with the value. Defaults to not at all.
    pub fn stale_if_error(mut self, window: impl Into<Option<Duration>>) -> Self {
        self.code.stale_if_error = Some(window.into());
        self
    }

    /// Lets hits of this cache be audited, and says when a served value is what the source has.
    ///
    /// The share of hits to audit is a setting (`UNSTALE_AUDIT=0.001`, or for this cache alone
    /// `UNSTALE_CACHES__<NAME>__AUDIT`; off by default). Each of them runs the loader in the
    /// background, at most 16 at a time. What differs is looked at again when `max_staleness` is
    /// over; what is *still* served and still differs then is counted by age
    /// (`unstale_audit_stale_total`) and logged with the hash of its key. So you can measure what
    /// is stale in production, writers that forget to invalidate included.
    ///
    /// ```
    /// # use unstale::{Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok::<_, std::io::Error>(sku.len() as u64) })
    ///     .audit(|served, source| served == source)
    ///     .build()?;
    /// # let _ = prices;
    /// # Ok(())
    /// # }
    /// ```
    pub fn audit(mut self, same: impl Fn(&V, &V) -> bool + Send + Sync + 'static) -> Self {
        self.same = Some(Box::new(same));
        self
    }

    /// The deadline of one load, and of waiting for a place among `max_loads`. Defaults to 5 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.code.load_timeout = Some(timeout);
        self
    }

    /// Loads that run at once. Defaults to 64.
    pub fn max_loads(mut self, loads: usize) -> Self {
        self.code.max_loads = Some(loads);
        self
    }

    /// Limits what requests for keys that were made up can cost the source: so many loads a second
    /// (and at most a second's worth at once) may find nothing, by a value that does not exist or
    /// by an error. Beyond it a read of a key that nothing in memory knows of fails at once with
    /// [`Overloaded`](ErrorKind::Overloaded), and is counted
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
    ///     .loader(|key: String| async move { Ok::<_, std::io::Error>((key == "good").then_some(7)) })
    ///     .unknown_loads(1)
    ///     .build()?;
    /// assert_eq!(keys.get("bad").await?, None); // this one was looked for
    /// assert!(keys.get("worse").await.is_err()); // and this one was not
    /// assert_eq!(keys.get("bad").await?, None); // it is remembered
    /// # Ok(())
    /// # }
    /// ```
    pub fn unknown_loads(mut self, per_second: impl Into<Option<u32>>) -> Self {
        self.code.unknown_loads = Some(per_second.into());
        self
    }

    /// How often entries that nobody reads any more are freed; `None` never. Defaults to 1 s.
    pub fn reap_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.code.reap_interval = Some(interval.into());
        self
    }

    /// Keeps entries in Redis as well (feature `shared`): what one instance has loaded, the others
    /// and those that start later find there, under the same promise. Defaults to memory only;
    /// `UNSTALE_SHARED=off` turns it off again.
    #[cfg(feature = "shared")]
    pub fn shared(mut self, shared: crate::Shared<V>) -> Self {
        self.code.shared_ttl = shared.ttl.map(Some);
        self.shared = Some(shared);
        self
    }

    /// Builds the cache.
    ///
    /// # Errors
    ///
    /// `Settings` for a bad option or variable, a bad name, a name that is taken in this instance
    /// or whose 32-bit id collides with another's, or `max_bytes` without a weigher.
    pub fn build(self) -> Result<Cache<K, V>, Error> {
        let core = self.lifeline.core().clone();
        let options = core.settings.for_cache(&self.name, &self.code)?;
        #[cfg(feature = "shared")]
        if let Some(wait) = self.shared.as_ref().and_then(|shared| shared.single_flight) {
            crate::settings::single_flight(&self.name, wait)?;
        }
        if options.max_bytes.is_some() && self.weigher.is_none() {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "cache {:?} has max_bytes but nothing to weigh entries with: call \
                     `.max_bytes(bytes, |key, value| ...)` in code, a variable then only changes it",
                    self.name
                ),
            ));
        }
        let own = core.settings.caches.get(&self.name);
        if self.same.is_none() && own.is_some_and(|own| matches!(own.audit, Some(Some(_)))) {
            return Err(Error::new(
                ErrorKind::Settings,
                format!(
                    "cache {:?} is to be audited but cannot compare its values: call \
                     `.audit(|served, source| served == source)` in code",
                    self.name
                ),
            ));
        }
        let id = cache_id(&self.name);
        if let Some(other) = core.target(id) {
            return Err(taken(&self.name, &*other));
        }
        let metrics = core.metrics.cache(&self.name, info(&options));
        let contain = Arc::new(Contain::new(&self.name, core.clock));
        let store_options = StoreOptions {
            cache: id,
            capacity: options.capacity,
            max_bytes: options.max_bytes,
            // A hit reads a clock that lags: without its step the promise would be one step off.
            max_staleness: options
                .max_staleness
                .map(|bound| nanos(bound).saturating_sub(core.clock.step())),
            refresh: Refresh::new(options.refresh_ahead, options.refresh_before.map(nanos)),
            remember_known: options.unknown_loads.is_some(),
            clock: core.clock,
            contain: contain.clone(),
        };
        let tier = tier(
            #[cfg(feature = "shared")]
            self.shared,
            &core,
            &options,
        );
        let inner = Arc::new(Inner {
            lifeline: self.lifeline,
            store: Store::new(store_options, core.stamps.clone(), metrics.clone()),
            name: self.name,
            id,
            flights: Arc::new(Flights::default()),
            audit: self
                .same
                .zip(options.audit)
                .map(|(same, share)| Audit::new(share, same, contain.clone())),
            loader: self.loader,
            batch_loader: self.batch_loader,
            weigher: self.weigher.map(|weigh| contained_weigher(weigh, contain)),
            tier,
            permits: Semaphore::new(options.max_loads),
            unknown_loads: options
                .unknown_loads
                .map(|limit| UnknownLoads::new(limit, core.clock)),
            waiting: AtomicU64::new(0),
            pauses: Pauses::default(),
            options,
            metrics,
        });
        let weak: Weak<Inner<K, V>> = Arc::downgrade(&inner);
        let registered: Weak<dyn Target> = weak.clone();
        if let Some(other) = core.register(id, &registered) {
            return Err(taken(&inner.name, &*other));
        }
        if inner.options.reap_interval.is_some() {
            drop(core.tasks.spawn_alone(&core.runtime, "reaper", reap(weak)));
        }
        let registration = Registration {
            core,
            id,
            cache: registered,
            metrics: inner.metrics.clone(),
        };
        Ok(Cache(inner, Arc::new(registration)))
    }
}

fn taken(name: &str, by: &dyn Target) -> Error {
    let other = by.name();
    let message = format!(
        "the name {name:?} is taken by the cache {other:?} of this instance (or has its id); choose \
         another"
    );
    Error::new(ErrorKind::Settings, message)
}

/// What a weigher that panics cannot weigh is too large to be stored.
fn contained_weigher<K: 'static, V: 'static>(
    weigh: Arc<Weigher<K, V>>,
    contain: Arc<Contain>,
) -> Arc<Weigher<K, V>> {
    Arc::new(move |key, value| {
        let weighed = contain.run("the weigher", || weigh(key, value));
        weighed.unwrap_or(u64::MAX)
    })
}

/// The cache's side of the shared tier, if it has one.
fn tier<K, V>(
    #[cfg(feature = "shared")] shared: Option<crate::Shared<V>>,
    core: &Core,
    options: &CacheOptions,
) -> Option<Box<dyn Tier<K, V>>>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[cfg(feature = "shared")]
    {
        let shared = shared.filter(|_| options.shared)?;
        core.share();
        let ttl = options.shared_ttl.unwrap_or(options.ttl);
        Some(Box::new(crate::shared::reader::Reader::new(shared, ttl)))
    }
    #[cfg(not(feature = "shared"))]
    {
        let _ = (core, options);
        None
    }
}

fn info(options: &CacheOptions) -> CacheInfo {
    CacheInfo {
        ttl: options.ttl,
        max_staleness: options.max_staleness,
        negative_ttl: options.negative_ttl,
        capacity: options.capacity as u64,
    }
}

/// Frees what is expired or invalidated, until the last handle of the cache is gone.
async fn reap<K, V>(cache: Weak<Inner<K, V>>)
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    let Some(every) = cache
        .upgrade()
        .and_then(|cache| cache.options.reap_interval)
    else {
        return;
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        ticks.tick().await;
        let Some(cache) = cache.upgrade() else { return };
        let core = cache.core();
        let (now, stamp) = (core.clock.now(), core.stamps.token());
        let stamps_moved = std::mem::replace(&mut seen, stamp) != stamp;
        if !cache.store.worth_sweeping(now, stamps_moved) {
            continue;
        }
        let began = core.clock.precise();
        let keep = cache.options.stale_if_error.map_or(0, nanos);
        cache.metrics.reaped.add(cache.store.sweep(now, keep));
        let took = Duration::from_nanos(core.clock.precise().saturating_sub(began));
        drop(cache);
        sleep(reaper::pause(every, took).saturating_sub(every)).await;
    }
}
