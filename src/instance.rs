//! `Instance`: one incarnation of this process in the fleet.

pub(crate) mod batch;
pub(crate) mod invalidations;
mod keeper;
mod secrets;
mod start;
pub(crate) mod statement;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant as Moment, sleep, timeout_at};

use crate::bus::BusKind;
use crate::bus::local::LocalBus;
use crate::coherence::lifeline::{Lifeline, close};
#[cfg(any(test, feature = "test-util"))]
use crate::coherence::member::Member;
use crate::coherence::member::Phase;
use crate::entered::entered;
use crate::identity::InstanceId;
use crate::instance::invalidations::Invalidations;
use crate::instance::start::Start;
use crate::settings::{HiddenSetting, Settings};
use crate::time::{Clock, tokio_stands_still};
use crate::{Batch, CacheBuilder, Error, ErrorKind, Key};

/// How long a shutdown waits for what is queued to be published.
const DRAIN: Duration = Duration::from_secs(5);

/// How often a draining shutdown looks whether everything has gone out.
const DRAIN_TICK: Duration = Duration::from_millis(5);

/// This process as a member of the fleet: it owns the connections and the background tasks. Start one, build
/// the caches from it, shut it down at the end. Clones are cheap and share everything.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use unstale::{Instance, Settings};
///
/// let instance = Instance::start(Settings::from_env()?).await?;
/// let names = instance
///     .cache::<u64, String>("names")
///     .loader(|id: u64| async move { Ok(format!("user {id}")) })
///     .build()?;
/// assert_eq!(names.get(&7).await?.as_deref(), Some("user 7"));
/// instance.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[doc(alias = "backplane")]
pub struct Instance(Arc<Lifeline>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("settings", &self.0.member().settings)
            .finish_non_exhaustive()
    }
}

/// What an instance is doing.
///
/// # Examples
///
/// ```
/// use unstale::{Instance, InstanceState};
///
/// /// The status of a liveness or readiness probe: while Redis is away the instance serves on.
/// fn healthz(instance: &Instance) -> u16 {
///     match instance.health().state {
///         InstanceState::Closed => 503,
///         _ => 200,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstanceState {
    /// The connection is up, every background task runs, and every lane was verified within `max_staleness` (if
    /// the instance serves no reads, within `member_timeout / 2` and the time of a verification) and answered
    /// its last verification.
    Coherent,
    /// Redis is away, or a background task has ended: hits are served for `max_staleness` after the last
    /// verification, and then each loaded value for `max_staleness`. The instance serves correct answers: it is
    /// live and ready, so keep it in rotation.
    Degraded,
    /// The instance was shut down.
    Closed,
}

/// What an operator wants to know about an instance.
///
/// It is for dashboards, logs and alerts. A liveness or readiness probe must not fail while the instance is
/// [`Degraded`](InstanceState::Degraded): when Redis is away, every instance is, and such a probe would take
/// all of them out of rotation at once. Let it fail only when the instance is
/// [`Closed`](InstanceState::Closed).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
/// use unstale::{BusKind, InstanceState};
///
/// let health = instance.health();
/// println!("{}: {:?}, {} writes are open", health.id, health.state, health.open_writes);
/// assert_eq!(health.state, InstanceState::Coherent);
/// assert_eq!(health.bus, BusKind::Local); // no Redis was named: an alert where one is meant
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The name of this instance in the log, the metrics and `unstale status`.
    pub id: InstanceId,
    /// The state in one word.
    pub state: InstanceState,
    /// Which instances hear of each other's invalidations. If Redis was meant and this is
    /// [`Local`](BusKind::Local), no other process hears of this one.
    pub bus: BusKind,
    /// Whether the connection to Redis is up, as far as this side can tell.
    pub connected: bool,
    /// The age of the last verification of each lane, in the order of the lanes; `None` before the
    /// first one.
    ///
    /// It may exceed `max_staleness` while the state is `Coherent`, and no promise is broken then: an instance
    /// that serves no reads verifies only every `member_timeout / 2` (2.5 s by default), and its next read asks
    /// for a verification before it serves a hit. Alert on [`state`](Self::state), not on this age.
    pub verified_age: Vec<Option<Duration>>,
    /// The number of writes that a peer would have to finish if this process ended now.
    ///
    /// A write counts from its announcement until Redis acknowledges its invalidation. A write whose commit
    /// failed, was abandoned or was dropped has an unknown outcome, and counts until its `write_timeout` is
    /// over. A write that is refused counts only while it waits for Redis.
    pub open_writes: usize,
    /// Defaults for all caches (`UNSTALE_TTL`, say) that are set but have no effect in a cache that is built,
    /// with the reason.
    pub hidden_settings: Vec<HiddenSetting>,
    /// Caches for which there are settings (`UNSTALE_CACHES__<NAME>__*`) but that are not built.
    pub unused_overrides: Vec<String>,
    /// Background tasks that have ended although the instance runs: a task has panicked, or the runtime on
    /// which the instance was started is gone. The state is then `Degraded` until the end of the process.
    pub ended_tasks: Vec<&'static str>,
}

impl Instance {
    /// Joins the fleet that shares `settings.namespace` on `settings.redis_url`. Call it inside a
    /// tokio runtime, whose tasks it uses.
    ///
    /// Without a URL the instance is a fleet of one, and a line of the log warns of that; the URL `none` asks
    /// for it and logs no warning.
    ///
    /// It is no error if Redis is away: after `start_wait` (2 s) the instance starts degraded (see
    /// [`health`](Self::health)), and it joins when Redis is there.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Instance, Settings};
    ///
    /// let mut settings = Settings::from_env()?; // UNSTALE_REDIS_URL, UNSTALE_NAMESPACE, ...
    /// settings.redis_url.get_or_insert_with(|| "redis://127.0.0.1".to_owned());
    /// let instance = Instance::start(settings).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Settings` for bad settings (all of them in one error) or a metrics address that cannot be
    /// listened on, `Auth` for a wrong password or missing rights, `Lanes` when the fleet uses
    /// another number of lanes.
    ///
    /// # Panics
    ///
    /// If it is called outside of a tokio runtime, or while tokio's clock is paused, as by
    /// `#[tokio::test(start_paused = true)]`: TTLs and bounds are measured by the kernel's clock, which goes
    /// on. A test that pauses the clock starts its instances with `unstale::testing::start_on` (feature
    /// `test-util`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        refuse_a_paused_clock();
        if settings.server_url().is_none() {
            let start = Start::new(settings, Clock::Kernel, BusKind::Local)?;
            return start.alone().await.map(Self);
        }
        #[cfg(feature = "redis")]
        {
            let redis = crate::bus::redis::RedisConfig::of(&settings);
            let redis = redis.ok_or_else(Error::closed)?;
            let start = Start::new(settings, Clock::Kernel, BusKind::Redis)?;
            start.on_redis(redis).await.map(Self)
        }
        #[cfg(not(feature = "redis"))]
        Err(Error::new(
            ErrorKind::Settings,
            "UNSTALE_REDIS_URL is set, but this program was built without the feature `redis`",
        ))
    }

    /// Joins the instances of this process that share `bus`; no server is involved. For tests,
    /// demonstrations and single-process programs. `settings.redis_url` is not used.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Cache, Error, Instance, LocalBus, Settings};
    ///
    /// /// What a service does at its start, on a bus in place of Redis.
    /// async fn start(bus: &LocalBus) -> Result<Cache<u64, String>, Error> {
    ///     let instance = Instance::start_on(bus, Settings::default()).await?;
    ///     let account = |id: u64| async move { Ok(format!("account {id}")) };
    ///     instance.cache("accounts").loader(account).build()
    /// }
    ///
    /// let bus = LocalBus::default();
    /// let (here, there) = (start(&bus).await?, start(&bus).await?);
    /// there.get(&7).await?;
    /// let token = here.invalidate(&7).await?;
    /// there.get_after(&7, &token).await?; // it has heard of that
    /// assert_eq!(there.stats().loads, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start): while the clock is paused, use `unstale::testing::start_on`.
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(bus: &LocalBus, settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        refuse_a_paused_clock();
        let start = Start::new(settings, Clock::Kernel, BusKind::Local)?;
        start.on(bus.clone()).await.map(Self)
    }

    /// As [`start_on`](Self::start_on), on tokio's clock, which tests pause and advance.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_on_tokio_clock(
        bus: &LocalBus,
        settings: Settings,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let start = Start::new(settings, Clock::Tokio(Moment::now()), BusKind::Local)?;
        start.on(bus.clone()).await.map(Self)
    }

    /// As [`start_on_tokio_clock`](Self::start_on_tokio_clock), in a fraction of the memory.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_small(
        bus: &LocalBus,
        settings: Settings,
        stripes: usize,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut start = Start::new(settings, Clock::Tokio(Moment::now()), BusKind::Local)?;
        start.stripes = stripes;
        start.on(bus.clone()).await.map(Self)
    }

    /// As [`start_small`](Self::start_small), with the id of another one: a copy of it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_copy(
        bus: &LocalBus,
        settings: Settings,
        (id, stripes): (u64, usize),
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut start = Start::new(settings, Clock::Tokio(Moment::now()), BusKind::Local)?;
        start.set_id(id);
        start.stripes = stripes;
        start.on(bus.clone()).await.map(Self)
    }

    /// As [`start`](Self::start), with the id of another one: a copy of it.
    #[cfg(all(feature = "redis", any(test, feature = "test-util")))]
    pub(crate) async fn start_copy_on_redis(
        mut settings: Settings,
        url: String,
        id: u64,
    ) -> Result<Self, Error> {
        settings.redis_url = Some(url);
        settings.validate()?;
        let redis = crate::bus::redis::RedisConfig::of(&settings);
        let redis = redis.ok_or_else(Error::closed)?;
        let mut start = Start::new(settings, Clock::Kernel, BusKind::Redis)?;
        start.set_id(id);
        start.on_redis(redis).await.map(Self)
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn member(&self) -> &Arc<Member> {
        self.0.member()
    }

    /// Returns the id of this instance, by which the log, the metrics and `unstale status` name it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// println!("{} has started", instance.id()); // the log, the metrics and `unstale status` say the same
    /// assert_eq!(instance.id().to_string().len(), 8);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.0.member().name()
    }

    /// Begins a cache. `name` is `[a-z][a-z0-9_]*` without `__`, unique in an instance, and the same on all
    /// instances that share its events. The cache's variables have the name in upper case:
    /// `UNSTALE_CACHES__PRICE_LIST__TTL` is that of `price_list`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::Cache;
    ///
    /// let sessions: Cache<String, u64> = instance
    ///     .cache("sessions")
    ///     .loader(|id: String| async move { Ok(id.len() as u64) })
    ///     .build()?;
    /// assert_eq!(sessions.get("s-1").await?, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cache<K, V>(&self, name: &str) -> CacheBuilder<K, V>
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        CacheBuilder::new(self.0.clone(), name)
    }

    /// Begins a change that touches several keys, tags or caches.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let accounts = instance.cache::<u64, String>("accounts").build()?;
    /// let sessions = instance.cache::<String, u64>("sessions").build()?;
    /// instance.batch().key(&accounts, &7).tag(&sessions, "account-7").invalidate().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self) -> Batch {
        Batch::new(self.0.clone())
    }

    /// Returns the state of the instance, its connection and its lanes. It is cheap.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// use unstale::InstanceState;
    ///
    /// let health = instance.health();
    /// let ready = health.state != InstanceState::Closed; // while Redis is away the instance serves on
    /// assert!(ready && health.open_writes == 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        let member = self.0.member();
        let now = member.clock.now();
        let age = |at: u64| (at > 0).then(|| Duration::from_nanos(now.saturating_sub(at)));
        let built = member.caches.all();
        let unused = member.settings.caches.keys();
        let unused = unused.filter(|name| !built.iter().any(|cache| cache.name() == name.as_str()));
        Health {
            id: member.name(),
            bus: member.bus_kind,
            state: match member.phase() {
                Phase::Closed => InstanceState::Closed,
                _ if member.coherent() => InstanceState::Coherent,
                _ => InstanceState::Degraded,
            },
            connected: member.bus.connected(),
            verified_age: member
                .stamps
                .lanes()
                .map(|lane| age(lane.verified_at()))
                .collect(),
            open_writes: member.writes.len(),
            hidden_settings: built
                .iter()
                .flat_map(|cache| cache.hidden_settings().iter().cloned())
                .collect(),
            unused_overrides: unused.cloned().collect(),
            ended_tasks: member.tasks.ended(),
        }
    }

    /// Returns what this instance invalidates from now on, of every cache that it has built.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use unstale::{Instance, Scope, Settings};
    ///
    /// let instance = Instance::start(Settings::default()).await?;
    /// let users = instance.cache::<String, u64>("users").build()?;
    /// let mut invalidations = instance.invalidations();
    ///
    /// users.invalidate_all().await?;
    /// let next = invalidations.next().await.expect("the instance runs");
    /// assert_eq!((next.scope, next.cache.as_deref()), (Scope::Cache, Some("users")));
    /// instance.shutdown().await?;
    /// assert_eq!(invalidations.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn invalidations(&self) -> Invalidations {
        Invalidations::new(self.0.member(), None)
    }

    /// Returns this instance's metrics up to now in Prometheus' text format, whichever recorder the program has
    /// installed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = unstale::Instance::start(unstale::Settings::default()).await?;
    /// let text = instance.metrics_text(); // the body of `/metrics`
    /// assert!(text.contains("# TYPE unstale_hits_total counter"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn metrics_text(&self) -> String {
        keeper::measure(self.0.member());
        self.0.member().metrics.text()
    }

    /// Publishes what is queued (for 5 s at most), leaves the fleet and stops. A second call does nothing.
    ///
    /// Afterwards reads go to the loader and are not stored, and writes and invalidations fail
    /// with `Closed`.
    ///
    /// # Errors
    ///
    /// `Bus` if something could not be published in time: peers finish open writes from the intents in Redis,
    /// but keep other old values until the TTL.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped on the way, the instance stays half shut down; call it again.
    pub async fn shutdown(&self) -> Result<(), Error> {
        entered(&self.0.member().runtime, self.end()).await
    }

    async fn end(&self) -> Result<(), Error> {
        let member = self.0.member();
        member.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining;
            }
            running
        });
        let deadline = Moment::now() + DRAIN;
        let drained = timeout_at(deadline, async {
            let idle = || member.lanes.iter().all(|lane| lane.idle());
            while member.going_out.load(Relaxed) > 0 || !idle() {
                sleep(DRAIN_TICK).await;
            }
        });
        let drained = drained.await.is_ok();
        close(member);
        member.bus.close(member.writes.open_anywhere()).await;
        member.log_end(drained);
        if drained {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Bus,
            "not everything could be published before the shutdown",
        ))
    }
}

/// Panics in a test that pauses tokio's clock, where entries would never expire.
fn refuse_a_paused_clock() {
    assert!(
        !tokio_stands_still(),
        "tokio's clock is paused, but this instance measures TTLs and bounds by the kernel's clock: \
         in a test with a paused clock, start it with `unstale::testing::start_on` (feature `test-util`)"
    );
}
