//! What the caches of one instance share of the tier: places for calls, the breakers, the secret.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use crate::Error;
use crate::bus::tier::{ClaimId, Name};
use crate::bus::{BoxFuture, Bus};
use crate::identity::{self, InstanceId};
use crate::lock::{Guard, Lock};
use crate::log::LogLimit;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::tier::breaker::Breaker;
use crate::tier::names::Secret;
use crate::time::Clock;

/// Calls under way at once. With answers in 1 ms that is 32,000 a second, and values of 10 KB keep
/// the events that wait behind them on the connection for some milliseconds only.
const CALLS: usize = 32;

/// Reads and stores that wait for a place at most, a few hundred bytes each. With answers in 1 ms the
/// places serve as many within half of [`PATIENCE`]; those behind them would wait in vain as soon as
/// Redis is slower.
const WAITING: usize = 8_192;

/// Keys that one instance waits for at once while another instance loads them: a task each, and 10,000
/// calls a second together, a third of what Redis can do. A load that finds no place goes on alone.
const WAITERS: usize = 512;

/// How long a store waits for its place; no caller waits for it.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a read waits for its place before it does without the tier.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub(crate) struct Pool {
    pub(crate) bus: Arc<dyn Bus>,
    secrets: Lock<Arc<Secrets>>,
    /// The secret is none, and that was not said yet.
    unsaid: AtomicBool,
    instance: u64,
    clock: Clock,
    metrics: Arc<Metrics>,
    outages: Arc<LogLimit>,
    runtime: Handle,
    publish_timeout: Duration,
    /// How long a fetch waits for its answer.
    pub(crate) answer_time: Duration,
    places: Lock<Places>,
    waiters: Arc<Semaphore>,
    /// One for each lane.
    breakers: Box<[Breaker]>,
}

/// The places for calls, and what waits for one.
struct Places {
    free: usize,
    /// Calls of loads that have begun: they come first, for other instances may wait for such a load, and
    /// a question that is given up makes two of one load for the fleet.
    begun: VecDeque<Waiting>,
    /// Loads that have not begun, and have no task.
    waiting: VecDeque<Waiting>,
    /// A thread hands out what is free.
    granting: bool,
}

/// A call that waits, and until when.
type Waiting = (Instant, Call);

/// What is done once it is decided whether there is a place. It ends at once: it spawns, or wakes a task.
type Call = Box<dyn FnOnce(Slot) + Send>;

/// A place for one call, or none.
#[derive(Debug)]
pub(crate) enum Slot {
    Granted(Permit),
    /// The wait was too long, or too many others wait.
    TimedOut,
}

/// The secrets of one moment.
pub(crate) struct Secrets {
    pub(crate) first: Secret,
    /// See [`Secret::accepted`].
    pub(crate) accepted: Option<Secret>,
}

impl Secrets {
    fn new(settings: &Settings) -> Self {
        Self {
            first: Secret::new(settings),
            accepted: Secret::accepted(settings),
        }
    }
}

/// A place. Dropped, it goes to the next that waits.
pub(crate) struct Permit(Arc<Pool>);

/// This thread hands out what is free.
struct Granting<'a>(&'a Pool);

impl Drop for Granting<'_> {
    fn drop(&mut self) {
        self.0.places().granting = false;
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.places().free += 1;
        self.0.grant();
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Redis was not asked: the bus is away, or the breaker is open.
    Skipped,
    /// Redis has failed, or was silent.
    Failed,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(
        instance: u64,
        clock: Clock,
        settings: &Settings,
        bus: Arc<dyn Bus>,
        (metrics, outages): (Arc<Metrics>, Arc<LogLimit>),
    ) -> Self {
        Self {
            bus,
            secrets: Lock::new(Arc::new(Secrets::new(settings))),
            unsaid: AtomicBool::new(Secret::is_public(settings)),
            instance,
            clock,
            metrics,
            outages,
            runtime: Handle::current(),
            publish_timeout: settings.publish_timeout,
            answer_time: settings.tier_timeout,
            places: Lock::new(Places {
                free: CALLS,
                begun: VecDeque::new(),
                waiting: VecDeque::new(),
                granting: false,
            }),
            waiters: Arc::new(Semaphore::new(WAITERS)),
            breakers: (0..settings.lanes).map(|_| Breaker::default()).collect(),
        }
    }

    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        self.secrets.lock().clone()
    }

    /// Takes the secrets of these settings.
    pub(crate) fn renew(&self, settings: &Settings) {
        *self.secrets.lock() = Arc::new(Secrets::new(settings));
    }

    /// Says once, as soon as a cache uses the tier, that values are not authenticated.
    pub(crate) fn warn_if_public(&self) {
        if self.unsaid.swap(false, Relaxed) {
            tracing::warn!(
                instance = %InstanceId::new(self.instance),
                "the values of the shared tier are not authenticated: any user who may write to Redis can \
                 forge them. Set UNSTALE_TIER_SECRET to the same value on every instance; `openssl rand -hex 32` \
                 makes one"
            );
        }
    }

    pub(crate) fn lanes(&self) -> u32 {
        self.breakers.len() as u32
    }

    /// A claim that no instance has, nor a copy of this one.
    pub(crate) fn claim(&self) -> ClaimId {
        let number = identity::unique();
        (u128::from(self.instance) << 64 | u128::from(number)).to_be_bytes()
    }

    /// Gives a claim up, in the background. If that fails, the claim expires by itself.
    pub(crate) fn release(&self, lane: u32, name: Name, claim: ClaimId) {
        let (bus, after) = (self.bus.clone(), self.publish_timeout);
        // One at most for each load that failed.
        self.runtime.spawn(async move {
            let _ = timeout(after, bus.release(lane, name, claim)).await;
        });
    }

    /// A place among the loads that wait for another instance's, if there is one.
    pub(crate) fn waiter(&self) -> Option<OwnedSemaphorePermit> {
        self.waiters.clone().try_acquire_owned().ok()
    }

    /// Whether a lane's breaker is open.
    pub(crate) fn broken(&self) -> bool {
        self.breakers.iter().any(Breaker::is_open)
    }

    fn places(&self) -> Guard<'_, Places> {
        self.places.lock()
    }

    /// Begins a load once there is a place, in the order in which they come: as long as it waits it needs no
    /// task. One that has waited longer than [`PATIENCE`], or finds too many others, gets none.
    pub(crate) fn when_free(self: &Arc<Self>, begin: Call) {
        self.enqueue(|places| &mut places.waiting, PATIENCE, begin);
    }

    fn enqueue(
        self: &Arc<Self>,
        queue: impl FnOnce(&mut Places) -> &mut VecDeque<Waiting>,
        patience: Duration,
        call: Call,
    ) {
        let mut places = self.places();
        let queue = queue(&mut places);
        if queue.len() >= WAITING {
            drop(places);
            return call(Slot::TimedOut);
        }
        queue.push_back((Instant::now() + patience, call));
        drop(places);
        self.grant();
    }

    /// Hands out what is free. Calls are made outside the lock, and one thread at a time makes them: on a
    /// runtime that is gone each drops its place at once, and a place that was handed on from there would
    /// go one level deeper for each call that waits.
    fn grant(self: &Arc<Self>) {
        loop {
            let mut places = self.places();
            if places.granting || places.free == 0 {
                return;
            }
            let next = places.begun.pop_front();
            let Some((until, call)) = next.or_else(|| places.waiting.pop_front()) else {
                return;
            };
            places.free -= 1;
            places.granting = true;
            drop(places);
            let _granting = Granting(self);
            let permit = Permit(self.clone());
            if Instant::now() <= until {
                call(Slot::Granted(permit));
            } else {
                drop(permit);
                call(Slot::TimedOut);
            }
        }
    }

    /// Waits for a place for a call of a load that has begun.
    pub(crate) async fn slot(self: &Arc<Self>, patience: Duration) -> Slot {
        let (grant, granted) = oneshot::channel();
        // A caller that has gone gives its place back, by the drop of what is sent.
        let send = Box::new(move |slot| drop(grant.send(slot)));
        self.enqueue(|places| &mut places.begun, patience, send);
        granted.await.unwrap_or(Slot::TimedOut)
    }

    /// Asks Redis, unless that would be in vain. Ends when the patience does.
    pub(crate) async fn call<'a, T>(
        &self,
        (lane, patience): (u32, Duration),
        permit: Permit,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, NoAnswer> {
        if !self.bus.connected() {
            return Err(NoAnswer::Skipped);
        }
        // With the place: calls before this one may have found that Redis is silent.
        let breaker = &self.breakers[lane as usize];
        let Some(admission) = breaker.admit(self.clock.now()) else {
            return Err(NoAnswer::Skipped);
        };
        let answer = timeout(patience, call()).await;
        drop(permit);
        let error = match answer {
            Ok(Ok(answer)) => {
                if breaker.succeeded() {
                    let instance = InstanceId::new(self.instance);
                    tracing::info!(%instance, lane, "the shared tier answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if breaker.failed(admission, self.clock.now()) {
            self.metrics.shared_trips.inc();
        }
        if let Some(suppressed) = self.outages.allow(self.clock.now()) {
            let reason = error.map_or_else(|| "no answer in time".to_owned(), |e| e.to_string());
            tracing::warn!(
                instance = %InstanceId::new(self.instance),
                lane,
                suppressed,
                reason,
                "the shared tier fails; entries are loaded from the source instead. Check Redis, and its user's \
                 rights in deploy/redis/users.acl"
            );
        }
        Err(NoAnswer::Failed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::bus::local::LocalBus;
    use crate::bus::local::tests::config;
    use crate::metrics::InstanceInfo;

    fn pool() -> Arc<Pool> {
        let (bus, _events) = LocalBus::default().attach(config(1));
        let metrics = Metrics::new(InstanceInfo::default());
        let clock = Clock::Tokio(Instant::now());
        let settings = Settings::default();
        Arc::new(Pool::new(
            1,
            clock,
            &settings,
            bus,
            (metrics, Arc::default()),
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_calls_run_as_there_are_places_and_all_others_get_theirs_in_order() {
        let pool = pool();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let runtime = Handle::current();
        let before = runtime.metrics().num_alive_tasks();
        for number in 0..1_000 {
            let (spawner, done) = (runtime.clone(), done.clone());
            pool.when_free(Box::new(move |slot| {
                assert!(matches!(slot, Slot::Granted(_)));
                drop(spawner.spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    done.send(number).unwrap();
                    drop(slot);
                }));
            }));
            assert!(runtime.metrics().num_alive_tasks() <= before + CALLS);
        }
        drop(done);
        let mut seen = Vec::new();
        while let Some(number) = order.recv().await {
            seen.push(number);
            // One that ends hands its place on before it is gone.
            assert!(runtime.metrics().num_alive_tasks() <= before + 2 * CALLS);
        }
        assert!(seen.into_iter().eq(0..1_000));
        assert_eq!(pool.places().free, CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_a_long_wait_do_without_the_tier() {
        let pool = pool();
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(pool.slot(PATIENCE).await);
        }
        let mut calls = JoinSet::new();
        for _ in 0..WAITING {
            let pool = pool.clone();
            calls.spawn(async move { matches!(pool.slot(PATIENCE).await, Slot::TimedOut) });
        }
        while pool.places().begun.len() < WAITING {
            tokio::task::yield_now().await;
        }
        assert!(
            matches!(pool.slot(PATIENCE).await, Slot::TimedOut),
            "it is full"
        );
        sleep(PATIENCE + Duration::from_millis(1)).await;
        held.clear();
        let timed_out = calls.join_all().await;
        assert!(timed_out.into_iter().all(|timed_out| timed_out));
        assert_eq!(pool.places().free, CALLS, "all places are given back");
        assert!(matches!(pool.slot(PATIENCE).await, Slot::Granted(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_loads_that_have_begun_come_before_those_that_have_not() {
        let pool = pool();
        let mut held = Vec::new();
        for _ in 0..CALLS {
            held.push(pool.slot(PATIENCE).await);
        }
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let begins = done.clone();
        pool.when_free(Box::new(move |slot| drop((begins.send("begins"), slot))));
        let asks = pool.clone();
        tokio::spawn(async move {
            let slot = asks.slot(PATIENCE).await;
            drop((done.send("asks again"), slot));
        });
        tokio::task::yield_now().await;
        held.pop();
        assert_eq!(order.recv().await, Some("asks again"));
        assert_eq!(order.recv().await, Some("begins"));
    }

    #[test]
    fn what_a_dead_runtime_leaves_is_dropped_and_goes_no_level_deeper_for_each_call() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let pool = runtime.block_on(async { pool() });
        let held = Arc::new(());
        let spawn = |held: Arc<()>, handle: Handle| {
            Box::new(move |slot: Slot| {
                drop(handle.spawn(async move {
                    std::future::pending::<()>().await;
                    drop((slot, held));
                }));
            })
        };
        for _ in 0..WAITING {
            pool.when_free(spawn(held.clone(), handle.clone()));
        }
        drop(runtime);
        pool.when_free(spawn(held.clone(), handle));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(pool.places().free, CALLS);
    }
}
