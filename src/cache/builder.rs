//! Options of one cache, and how they become one.

mod options;
mod replica;

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

#[cfg(feature = "shared")]
use crate::bus::BusKind;
use crate::cache::Cache;
use crate::cache::admission::Admission;
use crate::cache::auditor::{Auditor, Same};
use crate::cache::flight::Flights;
use crate::cache::pauses::Pauses;
use crate::cache::primary::Primary;
use crate::cache::registration::Registration;
use crate::cache::state::{CacheState, Weigher};
use crate::coherence::lifeline::Lifeline;
use crate::coherence::member::Member;
use crate::coherence::registry::AnyCache;
use crate::contain::Contain;
use crate::error::{BoxError, Error, ErrorKind};
use crate::key::{Key, cache_id};
use crate::loader::{Answer, BatchLoader, Loaded, Loader, plain, with_held};
use crate::log::LogLimit;
use crate::metrics::CacheInfo;
#[cfg(feature = "shared")]
use crate::metrics::CacheMetrics;
use crate::settings::{Abilities, CacheOptions, CacheSettings, RefreshAhead};
use crate::store::refresh::Refresh;
use crate::store::{Store, StoreOptions, reaper};
#[cfg(feature = "shared")]
use crate::tier::client::{CacheId, Tier};
use crate::time::{Nanos, nanos};

/// Options of one cache; begin with [`Instance::cache`](crate::Instance::cache).
///
/// From strongest to weakest: a cache's own variable (`UNSTALE_CACHES__<NAME>__TTL`), these calls, the default
/// for all caches (`UNSTALE_TTL`), the built-in default. So an operator can override the code for one cache,
/// but not for all at once. If a default for all caches is set but the code overrides it, that is logged once,
/// when the cache is built, and listed in [`Health::hidden_settings`](crate::Health::hidden_settings).
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
///     .ttl(Duration::from_secs(300))
///     .capacity(100_000)
///     .refresh_ahead(0.8) // an account that is read all the time is never waited for
///     .stale_if_error(Duration::from_secs(3_600)) // the database may be away for an hour
///     .build()?;
/// assert_eq!(accounts.get(&7).await?.as_deref(), Some("account 7"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct CacheBuilder<K, V> {
    lifeline: Arc<Lifeline>,
    name: String,
    code: CacheSettings,
    loader: Option<Arc<Loader<K, V>>>,
    /// For how long after an invalidation another loader is used, and that.
    primary: Option<(Duration, Arc<Loader<K, V>>)>,
    /// The loader is given what is past its TTL.
    keeps_expired: bool,
    batch_loader: Option<Arc<BatchLoader<K, V>>>,
    weigher: Option<Arc<Weigher<K, V>>>,
    same: Option<Box<Same<V>>>,
    #[cfg(feature = "shared")]
    shared: Option<crate::SharedTier<V>>,
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
            primary: None,
            keeps_expired: false,
            batch_loader: None,
            weigher: None,
            same: None,
            #[cfg(feature = "shared")]
            shared: None,
            entry: PhantomData,
        }
    }

    /// Sets how a value is fetched. The function returns `V`, `Option<V>` (`None`: it does not exist) or
    /// [`Loaded<V>`](Loaded), which carries its own TTL and tags. Defaults to none: every read then brings its
    /// own load ([`Cache::get_with`]).
    ///
    /// It runs in a task of its own, with `load_timeout` as its deadline, and must see what was committed
    /// before it began: read from the primary, or declare how far a replica is ([`Loaded::as_of`],
    /// [`primary_for`](Self::primary_for)).
    ///
    /// Its error is a [`BoxError`], into which `?` converts any error, so that no type has to be written out. A
    /// function with another error type is wrapped: `|id| async move { Ok(find(id).await?) }`.
    ///
    /// All reads that miss one key at the same time share one load: a stampede is one query.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use std::sync::Arc;
    ///
    /// struct Database;
    ///
    /// impl Database {
    ///     /// `None`: there is no such row.
    ///     async fn account(&self, id: u64) -> Result<Option<String>, std::io::Error> {
    ///         Ok((id < 100).then(|| format!("account {id}")))
    ///     }
    /// }
    ///
    /// let database = Arc::new(Database);
    /// let accounts = instance
    ///     .cache::<u64, String>("accounts")
    ///     .loader(move |id| {
    ///         let database = database.clone();
    ///         async move { Ok(database.account(id).await?) }
    ///     })
    ///     .build()?;
    /// assert_eq!(accounts.get(&7).await?.as_deref(), Some("account 7"));
    /// assert_eq!(accounts.get(&700).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "stampede")]
    #[doc(alias = "single_flight")]
    pub fn loader<L, F, R>(mut self, load: L) -> Self
    where
        L: Fn(K) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, BoxError>> + Send + 'static,
        R: Into<Loaded<V>>,
    {
        self.loader = Some(plain(load));
        self
    }

    /// Sets a [`loader`](Self::loader) that also gets the value that memory holds for the key, if any: past its
    /// TTL, or before its end if it is reloaded ahead. So it can ask the source whether the value has changed
    /// (an ETag, the version of a row, a refresh token), and [`Loaded::unchanged`] renews the entry, also in
    /// the shared tier, without transferring it. After an invalidation of the key nothing is held.
    ///
    /// Entries past their TTL stay in memory until `capacity` evicts them, for the next load.
    ///
    /// ```
    /// use unstale::{Instance, Loaded, Settings};
    ///
    /// #[derive(Clone)]
    /// struct Page {
    ///     etag: u64,
    ///     text: String,
    /// }
    ///
    /// /// `None`: 304 Not Modified.
    /// async fn fetch(_path: &str, if_none_match: Option<u64>) -> Result<Option<Page>, std::io::Error> {
    ///     let page = || Page { etag: 7, text: "hello".to_owned() };
    ///     Ok((if_none_match != Some(7)).then(page))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let pages = instance
    ///     .cache::<String, Page>("pages")
    ///     .loader_with_held(|path: String, held: Option<Page>| async move {
    ///         Ok(match fetch(&path, held.map(|page| page.etag)).await? {
    ///             Some(page) => Loaded::new(page),
    ///             None => Loaded::unchanged(),
    ///         })
    ///     })
    ///     .build()?;
    /// assert_eq!(pages.get("/").await?.map(|page| page.text).as_deref(), Some("hello"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "conditional")]
    #[doc(alias = "etag")]
    pub fn loader_with_held<L, F, R>(mut self, load: L) -> Self
    where
        L: Fn(K, Option<V>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, BoxError>> + Send + 'static,
        R: Into<Loaded<V>>,
    {
        self.loader = Some(with_held(load));
        self.keeps_expired = true;
        self
    }

    /// Sets the function that loads, in one call, all keys that [`Cache::get_many`] and [`Cache::preload`]
    /// miss. Its answers may come in any order; a key that is left out does not exist. Defaults to the loader,
    /// once for each key; without a loader, a single read is a batch of one.
    ///
    /// An answer is what a [`loader`](Self::loader) returns, or a `Result` of that: the error of one key is
    /// returned to the callers that read it, and the other values are kept. An error of the whole call is the
    /// error of each key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let halves = instance
    ///     .cache::<u64, u64>("halves")
    ///     .batch_loader(|ns: Vec<u64>| async move {
    ///         let half = |n: u64| if n % 2 == 0 { Ok(n / 2) } else { Err("it is odd") };
    ///         Ok(ns.into_iter().map(|n| (n, half(n))).collect::<Vec<_>>())
    ///     })
    ///     .build()?;
    /// assert!(halves.get_many([4, 5]).await.is_err());
    /// assert_eq!(halves.peek(&4), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch_loader<L, F, R>(mut self, load: L) -> Self
    where
        L: Fn(Vec<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<(K, R)>, BoxError>> + Send + 'static,
        R: Into<Answer<V>>,
    {
        self.batch_loader = Some(Arc::new(move |keys| {
            let loading = load(keys);
            Box::pin(async move {
                let pairs = loading.await?;
                Ok(pairs
                    .into_iter()
                    .map(|(key, answer)| (key, answer.into().0))
                    .collect())
            })
        }));
        self
    }

    /// Sets how a served value is compared with the source's, so that hits of this cache can be
    /// audited.
    ///
    /// The share of hits to audit is a setting (`UNSTALE_AUDIT=0.001`, or for this cache alone
    /// `UNSTALE_CACHES__<NAME>__AUDIT`; off by default). Each of them runs the loader in the background, at
    /// most 16 at a time. A value that differs is compared again when `max_staleness` is over; one that is
    /// *still* served and still differs then is counted by age (`unstale_audit_stale_total`) and logged with
    /// the hash of its key. So you can measure what is stale in production, including what writers forget to
    /// invalidate.
    ///
    /// ```
    /// # use unstale::{Instance, Settings};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = Instance::start(Settings::default()).await?;
    /// let prices = instance
    ///     .cache::<String, u64>("prices")
    ///     .loader(|sku: String| async move { Ok(sku.len() as u64) })
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

    /// Keeps entries in Redis as well (feature `shared`): the other instances, and those that start later, find
    /// there what one instance has loaded, under the same promise. Defaults to memory only; `UNSTALE_TIER=off`
    /// turns it off again.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::SharedTier;
    ///
    /// let reports = instance
    ///     .cache::<u64, String>("reports")
    ///     .loader(|tenant: u64| async move { Ok(format!("report of {tenant}")) }) // takes seconds
    ///     .tier(SharedTier::new())
    ///     .build()?;
    /// assert_eq!(reports.get(&7).await?.as_deref(), Some("report of 7"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "shared")]
    pub fn tier(mut self, shared: crate::SharedTier<V>) -> Self {
        self.code.tier_ttl = shared.ttl.map(Into::into);
        self.shared = Some(shared);
        self
    }

    /// Builds the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::ErrorKind;
    ///
    /// let prices = instance.cache::<String, u64>("prices").build()?;
    /// let twice = instance.cache::<String, u64>("prices").build(); // the name is taken
    /// assert_eq!(twice.map_err(|error| error.kind()).err(), Some(ErrorKind::Settings));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Settings` for a bad option or variable, a bad name, a name that is taken in this instance
    /// or whose 32-bit id collides with another's, or `max_bytes` of this cache without a weigher.
    /// `UNSTALE_MAX_BYTES`, the default for all caches, has no effect in a cache without a weigher.
    pub fn build(self) -> Result<Cache<K, V>, Error> {
        let member = self.lifeline.member().clone();
        let options = self.validate(&member)?;
        for hidden in &options.hidden {
            tracing::info!(
                instance = %member.name(),
                cache = %hidden.cache,
                setting = %hidden.setting,
                value = %hidden.value,
                reason = %hidden.reason,
                "a default for all caches has no effect in this cache"
            );
        }
        let inner = self.assemble(&member, options)?;
        register(member, inner)
    }

    /// Resolves and checks the options.
    fn validate(&self, member: &Member) -> Result<CacheOptions, Error> {
        #[cfg(feature = "shared")]
        if let Some(wait) = self.shared.as_ref().and_then(|shared| shared.single_flight) {
            crate::settings::single_flight(&self.name, wait)?;
        }
        self.check_primary()?;
        let can = Abilities {
            weighs: self.weigher.is_some(),
            compares: self.same.is_some(),
        };
        member.settings.for_cache(&self.name, &self.code, can)
    }

    /// Makes the cache, which no event reaches yet.
    fn assemble(
        self,
        member: &Arc<Member>,
        options: CacheOptions,
    ) -> Result<Arc<CacheState<K, V>>, Error> {
        let id = cache_id(&self.name);
        if let Some(other) = member.caches.get(id) {
            return Err(taken(&self.name, &*other));
        }
        let metrics = member.metrics.cache(&self.name, info(&options));
        let contain = Arc::new(Contain::new(&self.name, member.clock));
        let source = options.source.as_ref().map(|name| {
            let (lanes, now) = (member.lane_count(), member.clock.now());
            member.sources.get(name, lanes, now, &*member.bus)
        });
        let store_options = StoreOptions {
            source: source.transpose()?,
            cache: id,
            capacity: options.capacity,
            negative_capacity: options.negative_capacity.unwrap_or(options.capacity),
            max_bytes: options.max_bytes,
            // A hit reads a clock that lags: its age may be that much more than it seems.
            max_staleness: options
                .max_staleness
                .map(|bound| nanos(bound).saturating_sub(member.clock.lag())),
            refresh: options.refresh_ahead.map(refresh),
            remember_known: options.unknown_loads.is_some(),
            clock: member.clock,
            contain: contain.clone(),
        };
        #[cfg(feature = "shared")]
        let codec = self
            .shared
            .as_ref()
            .filter(|shared| !shared.whole_where_loaded);
        #[cfg(feature = "shared")]
        let codec = codec.map(|shared| shared.codec.clone());
        #[cfg(feature = "shared")]
        let tier = self
            .shared
            .filter(|_| options.tier)
            .map(|shared| tier::<K, V>(shared, (id, &self.name), member, &options, &metrics));
        Ok(Arc::new(CacheState {
            lifeline: self.lifeline,
            store: Store::new(store_options, member.stamps.clone(), metrics.clone()),
            name: self.name,
            id,
            flights: Arc::new(Flights::default()),
            audit: self
                .same
                .zip(options.audit)
                .map(|(same, share)| Auditor::new(share, same, contain.clone())),
            loader: self.loader,
            primary: self
                .primary
                .map(|(window, load)| Primary::new(nanos(window), load)),
            keeps_expired: self.keeps_expired,
            batch_loader: self.batch_loader,
            #[cfg(feature = "shared")]
            codec,
            weigher: self.weigher.map(|weigh| contained_weigher(weigh, contain)),
            #[cfg(feature = "shared")]
            has_tier: tier.is_some(),
            #[cfg(not(feature = "shared"))]
            has_tier: false,
            #[cfg(feature = "shared")]
            tier,
            source_hangs: AtomicBool::new(false),
            failures: LogLimit::default(),
            admission: Admission::new(&options, member.clock),
            pauses: Pauses::default(),
            options,
            metrics,
        }))
    }
}

/// Makes events reach the cache and starts its reaper.
fn register<K, V>(member: Arc<Member>, inner: Arc<CacheState<K, V>>) -> Result<Cache<K, V>, Error>
where
    K: Key + Clone + 'static,
    V: Clone + Send + Sync + 'static,
{
    let weak: Weak<CacheState<K, V>> = Arc::downgrade(&inner);
    let registered: Weak<dyn AnyCache> = weak.clone();
    if let Some(other) = member.caches.enter(inner.id, &registered) {
        return Err(taken(&inner.name, &*other));
    }
    member.tell_caches();
    if inner.options.reap_interval.is_some() {
        let reaper = member
            .tasks
            .spawn_alone(&member.runtime, "reaper", reap(weak));
        drop(reaper);
    }
    let registration = Registration {
        member,
        id: inner.id,
        cache: registered,
        metrics: inner.metrics.clone(),
    };
    Ok(Cache(inner, Arc::new(registration)))
}

fn taken(name: &str, by: &dyn AnyCache) -> Error {
    let other = by.name();
    let message = format!(
        "the name {name:?} is taken by the cache {other:?} of this instance, or has the same id; \
         choose another name"
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
#[cfg(feature = "shared")]
fn tier<K: Key, V>(
    shared: crate::SharedTier<V>,
    (id, name): (u32, &str),
    member: &Member,
    options: &CacheOptions,
    metrics: &Arc<CacheMetrics>,
) -> Tier<V> {
    member.share();
    if member.bus_kind == BusKind::Redis {
        member.tier.warn_if_public();
    }
    Tier {
        options: shared,
        cache: CacheId {
            id,
            name: name.to_owned(),
            format: K::FORMAT,
        },
        ttl: options.tier_ttl.unwrap_or(options.ttl),
        negative_ttl: options.negative_ttl,
        pool: member.tier.clone(),
        metrics: metrics.clone(),
    }
}

fn refresh(when: RefreshAhead) -> Refresh {
    match when {
        RefreshAhead::Share(share) => Refresh::Share(share),
        RefreshAhead::Before(margin) => Refresh::Before(nanos(margin)),
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
async fn reap<K, V>(cache: Weak<CacheState<K, V>>)
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
        let member = cache.member();
        let (now, stamp) = (member.clock.now(), member.stamps.token());
        let stamps_moved = std::mem::replace(&mut seen, stamp) != stamp;
        if !cache.store.worth_sweeping(now, stamps_moved) {
            continue;
        }
        let began = member.clock.precise();
        let keep = match cache.keeps_expired {
            true => Nanos::MAX,
            false => cache.options.stale_if_error.map_or(0, nanos),
        };
        cache.metrics.reaped.add(cache.store.sweep(now, keep));
        let took = Duration::from_nanos(member.clock.precise().saturating_sub(began));
        drop(cache);
        sleep(reaper::pause(every, took).saturating_sub(every)).await;
    }
}
