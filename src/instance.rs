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

/// This process in the fleet: owns the connections and the background tasks. Start one, build the
/// caches from it, shut it down at the end. Clones are cheap and share everything.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstanceState {
    /// Connected, every background task runs, every lane answered its last verification, and each was
    /// verified within `max_staleness` (where the instance serves no reads, within
    /// `member_timeout / 2` and the time of a verification).
    Coherent,
    /// The bus is away: hits are served for `max_staleness` after the last verification, then every
    /// load lives that long. No reason to leave rotation.
    Degraded,
    /// Shut down.
    Closed,
}

/// What an operator wants to know of an instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// By which the log, the metrics and `unstale status` name this instance.
    pub id: InstanceId,
    /// In one word.
    pub state: InstanceState,
    /// Which instances hear of each other. [`Local`](BusKind::Local) where Redis was meant is a fleet
    /// of strangers, each of which is coherent with itself.
    pub bus: BusKind,
    /// Whether the connection to Redis is up, as far as this side can tell.
    pub connected: bool,
    /// The age of the last verification of each lane, in the order of the lanes; `None` before the
    /// first one.
    ///
    /// It may exceed `max_staleness` while the state is `Coherent`, and no promise is broken then: an
    /// instance that serves no reads verifies every `member_timeout / 2` only (2.5 s by default), and
    /// its next read asks for a verification before it serves a hit. Alert on
    /// [`state`](Self::state), not on this age.
    pub verified_age: Vec<Option<Duration>>,
    /// The number of writes that a peer would have to finish if this process ended now.
    ///
    /// A write counts from its announcement until Redis acknowledges its invalidation. One whose
    /// commit failed, was abandoned or was dropped has an unknown outcome, and counts until its
    /// `write_timeout` is over. One that is refused counts only while it waits for Redis.
    pub open_writes: usize,
    /// Defaults for all caches (`UNSTALE_TTL`, say) that are set and have no effect in a cache that is
    /// built, with the reason.
    pub hidden_settings: Vec<HiddenSetting>,
    /// Caches for which there are settings (`UNSTALE_CACHES__<NAME>__*`) but that are not built.
    pub unused_overrides: Vec<String>,
    /// Background tasks of the instance that have ended although it runs: one has panicked, or the
    /// runtime is gone that it was started on. The state is `Degraded` then until the end of the process.
    pub ended_tasks: Vec<&'static str>,
}

impl Instance {
    /// Joins the fleet that shares `settings.namespace` on `settings.redis_url`. Call it inside a
    /// tokio runtime, whose tasks it uses.
    ///
    /// Without a URL it is a fleet of one, and a line of the log warns of it; `none` in place of the
    /// URL asks for that.
    ///
    /// Redis being away is no error: after `start_wait` (2 s) the instance starts degraded (see
    /// [`health`](Self::health)) and joins when Redis is there.
    ///
    /// # Errors
    ///
    /// `Settings` for bad settings (all of them in one error) or a metrics address that cannot be
    /// listened on, `Auth` for a wrong password or missing rights, `Lanes` when the fleet uses
    /// another number of lanes.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime; and if tokio's clock is paused, as by
    /// `#[tokio::test(start_paused = true)]`: TTLs and bounds are measured by the kernel's clock, which
    /// goes on. A test that pauses the clock starts its instances by `unstale::testing::start_on`
    /// (feature `test-util`).
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
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start): under a paused clock, use `unstale::testing::start_on`.
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

    /// Returns the id of this instance: by it the log, the metrics and `unstale status` name it.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.0.member().name()
    }

    /// Begins a cache; `name` is `[a-z][a-z0-9_]*` without `__`, unique in an instance, and the
    /// same on all instances that share its events.
    pub fn cache<K, V>(&self, name: &str) -> CacheBuilder<K, V>
    where
        K: Key + Clone + 'static,
        V: Clone + Send + Sync + 'static,
    {
        CacheBuilder::new(self.0.clone(), name)
    }

    /// Begins a change that touches several keys, tags or caches.
    pub fn batch(&self) -> Batch {
        Batch::new(self.0.clone())
    }

    /// The state of the connection and the lanes; cheap.
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

    /// This instance's metrics, up to now, in Prometheus' text format, whatever recorder the
    /// program has installed.
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn metrics_text(&self) -> String {
        keeper::measure(self.0.member());
        self.0.member().metrics.text()
    }

    /// Publishes what is queued (at most 5 s), leaves the fleet and stops. Idempotent.
    ///
    /// Afterwards reads go to the loader and are not stored, and writes and invalidations fail
    /// with `Closed`.
    ///
    /// # Errors
    ///
    /// `Bus` when something could not be published in time: peers learn of open writes from their
    /// intents, of other invalidations not before the TTL.
    ///
    /// # Cancel safety
    ///
    /// Dropped on the way, the instance stays half shut down; call it again.
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
         in a test with a paused clock, start it by `unstale::testing::start_on` (feature `test-util`)"
    );
}
