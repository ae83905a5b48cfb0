//! `Instance`: one incarnation of this process in the fleet.

mod keeper;
mod start;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant as Moment, sleep, timeout_at};

use crate::bus::local::LocalBus;
use crate::core::{Core, OutLane, Phase};
use crate::instance::start::Start;
use crate::settings::Settings;
use crate::time::Clock;
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
///     .loader(|id: u64| async move { Ok::<_, std::io::Error>(format!("user {id}")) })
///     .build()?;
/// assert_eq!(names.get(&7).await?.as_deref(), Some("user 7"));
/// instance.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Instance(Arc<Lifeline>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("settings", &self.0.core.settings)
            .finish_non_exhaustive()
    }
}

/// Held by the instance's handles and its caches. When the last one is gone, everything stops.
pub(crate) struct Lifeline {
    core: Arc<Core>,
}

impl Lifeline {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if self.core.phase() != Phase::Closed {
            close(&self.core);
            let core = self.core.clone();
            self.core
                .runtime
                .spawn(async move { core.bus.close(core.writes.open_anywhere()).await });
        }
    }
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
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
    /// In one word.
    pub state: State,
    /// Whether the connection to Redis is up, as far as this side can tell.
    pub connected: bool,
    /// For each lane, how long ago it was last known that nothing had been missed; `None`: not yet.
    /// An idle instance verifies every `member_timeout / 2` only.
    pub verified_age: Vec<Option<Duration>>,
    /// Writes between their announcement and their acknowledged invalidation.
    pub open_writes: usize,
    /// Caches for which there are settings (`UNSTALE_CACHES__<NAME>__*`) but which nobody built.
    pub unused_overrides: Vec<String>,
    /// Background tasks of the instance that have ended although it runs: one has panicked, or the
    /// runtime is gone that it was started on. The state is `Degraded` then until the end of the process.
    pub ended_tasks: Vec<&'static str>,
}

impl Instance {
    /// Joins the fleet that shares `settings.namespace` on `settings.redis_url`; without a URL,
    /// a fleet of one. Call it inside a tokio runtime, whose tasks it uses.
    ///
    /// Redis being away is no error: after 2 s the instance starts degraded (see
    /// [`health`](Self::health)) and joins when Redis is there.
    ///
    /// # Errors
    ///
    /// `Settings` for bad settings (all of them in one error) or a metrics address that cannot be
    /// listened on, `Auth` for a wrong password or missing rights, `Lanes` when the fleet uses
    /// another number of lanes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let start = Start::new(settings, Clock::Kernel)?;
        match start.settings.redis_url.clone() {
            None => start.on(LocalBus::default()).await,
            #[cfg(feature = "redis")]
            Some(url) => start.on_redis(url).await,
            #[cfg(not(feature = "redis"))]
            Some(_) => Err(Error::new(
                ErrorKind::Settings,
                "UNSTALE_REDIS_URL is set, but this program was built without the feature `redis`",
            )),
        }
    }

    /// Joins the instances of this process that share `bus`; no server is involved. For tests,
    /// demonstrations and single-process programs. `settings.redis_url` is not used.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(bus: &LocalBus, settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let start = Start::new(settings, Clock::Kernel)?;
        start.on(bus.clone()).await
    }

    /// As [`start_on`](Self::start_on), on tokio's clock, which tests pause and advance.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_on_tokio_clock(
        bus: &LocalBus,
        settings: Settings,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let start = Start::new(settings, Clock::Tokio(Moment::now()))?;
        start.on(bus.clone()).await
    }

    /// As [`start_on_tokio_clock`](Self::start_on_tokio_clock), in a fraction of the memory.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_small(
        bus: &LocalBus,
        settings: Settings,
        stripes: usize,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut start = Start::new(settings, Clock::Tokio(Moment::now()))?;
        start.stripes = stripes;
        start.on(bus.clone()).await
    }

    /// As [`start_small`](Self::start_small), with the id of another one: a copy of it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) async fn start_copy(
        bus: &LocalBus,
        settings: Settings,
        (id, stripes): (u64, usize),
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut start = Start::new(settings, Clock::Tokio(Moment::now()))?;
        (start.id, start.stripes) = (id, stripes);
        start.on(bus.clone()).await
    }

    /// As [`start`](Self::start), with the id of another one: a copy of it.
    #[cfg(all(feature = "redis", any(test, feature = "test-util")))]
    pub(crate) async fn start_copy_on_redis(
        settings: Settings,
        url: String,
        id: u64,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let mut start = Start::new(settings, Clock::Kernel)?;
        start.id = id;
        start.on_redis(url).await
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
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
        let core = &self.0.core;
        let now = core.clock.now();
        let age = |at: u64| (at > 0).then(|| Duration::from_nanos(now.saturating_sub(at)));
        let built = core.targets();
        let unused = core.settings.caches.keys();
        let unused = unused.filter(|name| !built.iter().any(|cache| cache.name() == name.as_str()));
        Health {
            state: match core.phase() {
                Phase::Closed => State::Closed,
                _ if core.coherent() => State::Coherent,
                _ => State::Degraded,
            },
            connected: core.bus.connected(),
            verified_age: core
                .stamps
                .lanes()
                .map(|lane| age(lane.verified_at()))
                .collect(),
            open_writes: core.writes.len(),
            unused_overrides: unused.cloned().collect(),
            ended_tasks: core.tasks.ended(),
        }
    }

    /// This instance's metrics, up to now, in Prometheus' text format, whatever recorder the
    /// program has installed.
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn metrics_text(&self) -> String {
        keeper::measure(&self.0.core);
        self.0.core.metrics.text()
    }

    /// Publishes what is queued (at most 5 s), says goodbye and stops. Idempotent.
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
        let core = &self.0.core;
        core.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Draining;
            }
            running
        });
        let deadline = Moment::now() + DRAIN;
        let drained = timeout_at(deadline, async {
            while !core.lanes.iter().all(|lane| lane.idle()) {
                sleep(DRAIN_TICK).await;
            }
        });
        let drained = drained.await.is_ok();
        close(core);
        core.bus.close(core.writes.open_anywhere()).await;
        if drained {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Bus,
            "not everything could be published before the shutdown",
        ))
    }
}

/// Fails what still waits and makes every entry a miss: nobody would invalidate it any more.
fn close(core: &Core) {
    core.tasks.close();
    core.phase.send_replace(Phase::Closed);
    for (lane, out) in (0..).zip(&core.lanes) {
        let waiting = out.outbox().close();
        waiting.answer(&Err(Error::closed()));
        core.stamps.fence(lane);
    }
    core.metrics.close();
}

impl OutLane {
    /// Nothing waits and nothing is in flight.
    fn idle(&self) -> bool {
        self.outbox().is_empty() && !self.in_flight.load(Relaxed)
    }
}

impl Core {
    pub(crate) fn note_unused_overrides(&self) {
        let built: Vec<u32> = self.caches.lock().keys().copied().collect();
        let id = |name: &String| crate::key::cache_id(name);
        for name in self
            .settings
            .caches
            .keys()
            .filter(|name| !built.contains(&id(name)))
        {
            tracing::warn!(
                cache = %name,
                "there are settings for a cache that nobody has built: is its name misspelt?"
            );
        }
    }
}
