//! How an instance starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant as Moment, timeout_at};

use crate::Error;
use crate::bus::local::LocalBus;
use crate::bus::{Bus, BusConfig, BusEvent, BusKind, StillOpen};
use crate::coherence::Coherence;
use crate::coherence::agreement::Agreement;
use crate::coherence::intents::OpenWrites;
use crate::coherence::lane::OutLane;
use crate::coherence::lifeline::{Lifeline, close};
use crate::coherence::listeners::Listeners;
use crate::coherence::member::{Member, Phase};
use crate::coherence::outbound::Publisher;
use crate::coherence::recent::Recent;
use crate::coherence::registry::Registry;
use crate::coherence::said::StateLog;
use crate::coherence::sources::Sources;
use crate::event::Seal;
use crate::identity::{self, InstanceId};
use crate::instance::keeper;
use crate::instance::secrets;
#[cfg(any(test, feature = "test-util"))]
use crate::lock::Lock;
use crate::log::LogLimit;
use crate::metrics::{InstanceInfo, Metrics};
use crate::settings::Settings;
use crate::store::stamps::Stamps;
use crate::sync::STRIPES;
use crate::tasks::Tasks;
use crate::time::Clock;

/// An instance that is being started.
pub(super) struct Start {
    settings: Settings,
    clock: Clock,
    bus_kind: BusKind,
    /// The URL of Redis as it may be shown.
    redis: String,
    id: u64,
    metrics: Arc<Metrics>,
    outages: Arc<LogLimit>,
    tasks: Arc<Tasks>,
    deadline: Moment,
    pub(super) stripes: usize,
}

impl Start {
    pub(super) fn new(settings: Settings, clock: Clock, bus_kind: BusKind) -> Result<Self, Error> {
        let id = identity::instance(clock)?;
        let redis = match bus_kind {
            BusKind::Redis => settings.shown_url(),
            BusKind::Local => "none".to_owned(),
        };
        let deadline = Moment::now() + settings.start_wait;
        let start = Self {
            metrics: metrics(&settings, id, bus_kind, &redis),
            settings,
            clock,
            bus_kind,
            redis,
            id,
            outages: Arc::default(),
            tasks: Arc::new(Tasks::of(InstanceId::new(id))),
            deadline,
            stripes: STRIPES,
        };
        start.warn_of_exposed_files();
        Ok(start)
    }

    /// Takes the id of another instance: a copy of it.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn set_id(&mut self, id: u64) {
        self.id = id;
        self.metrics = metrics(&self.settings, id, self.bus_kind, &self.redis);
    }

    /// Logs which secrets every user of this machine may read.
    fn warn_of_exposed_files(&self) {
        for variable in &self.settings.exposed {
            tracing::warn!(
                instance = %InstanceId::new(self.id),
                variable,
                "every user of this machine may read the file with this secret: give it the mode 0400, in \
                 Kubernetes by the volume's defaultMode"
            );
        }
    }

    /// Without a URL: on a bus of its own. That is what `none` asks for; if nothing is set, it may have been
    /// forgotten, and without a warning the instance would look like any other.
    pub(super) async fn alone(mut self) -> Result<Arc<Lifeline>, Error> {
        self.redis = self.settings.shown_url();
        self.metrics = metrics(&self.settings, self.id, self.bus_kind, &self.redis);
        if self.settings.redis_url.is_none() {
            tracing::warn!(
                instance = %InstanceId::new(self.id),
                namespace = self.settings.namespace,
                "UNSTALE_REDIS_URL is not set: this instance hears of no other process, and serves what \
                 others have changed until its TTL. Set it to the Redis of the fleet, or to none if this \
                 process is the only one"
            );
        }
        self.on(LocalBus::default()).await
    }

    fn bus_config(&self) -> BusConfig {
        BusConfig {
            namespace: self.settings.namespace.clone(),
            instance: self.id,
            lanes: self.settings.lanes,
            journal: self.settings.journal,
            member_timeout: self.settings.member_timeout,
            signs: Seal::new(&self.settings).is_keyed(),
            keys: Seal::new(&self.settings).prints(),
            traffic: self.metrics.traffic(),
            outages: self.outages.clone(),
            tasks: self.tasks.clone(),
        }
    }

    pub(super) async fn on(self, bus: LocalBus) -> Result<Arc<Lifeline>, Error> {
        let (bus, events) = bus.attach(self.bus_config());
        self.run(bus, events).await
    }

    #[cfg(feature = "redis")]
    pub(super) async fn on_redis(
        self,
        redis: crate::bus::redis::RedisConfig,
    ) -> Result<Arc<Lifeline>, Error> {
        use crate::bus::redis::RedisBus;

        let (bus, events) = RedisBus::start(self.bus_config(), &redis)?;
        let wait = self.deadline.saturating_duration_since(Moment::now());
        match bus.ready(wait).await {
            Err(error) if error.kind() != crate::ErrorKind::Bus => {
                bus.close(StillOpen::default()).await;
                Err(error)
            }
            // Away: start degraded.
            Ok(()) | Err(_) => self.run(bus, events).await,
        }
    }

    async fn run(
        self,
        bus: Arc<dyn Bus>,
        events: mpsc::Receiver<BusEvent>,
    ) -> Result<Arc<Lifeline>, Error> {
        let deadline = self.deadline;
        let member = self.member(bus);
        let lifeline = Arc::new(Lifeline::new(member.clone()));
        keeper::listen(&member)?;
        spawn_tasks(&member, events);
        first_answer(&member, deadline).await?;
        Ok(lifeline)
    }

    fn member(self, bus: Arc<dyn Bus>) -> Arc<Member> {
        let Self {
            settings,
            clock,
            bus_kind,
            redis,
            id,
            metrics,
            outages,
            tasks,
            deadline: _,
            stripes,
        } = self;
        let out_lane = |_| OutLane::new(settings.outbox);
        #[cfg(feature = "shared")]
        let tier = Arc::new(crate::tier::pool::Pool::new(
            id,
            clock,
            &settings,
            bus.clone(),
            (metrics.clone(), outages.clone()),
        ));
        Arc::new(Member {
            id,
            bus_kind,
            redis,
            state_log: StateLog::default(),
            clock,
            stamps: Arc::new(Stamps::new(settings.lanes, stripes)),
            bus,
            lanes: (0..settings.lanes).map(out_lane).collect(),
            seal: Seal::new(&settings),
            writes: OpenWrites::default(),
            sources: Sources::default(),
            shares: AtomicBool::new(false),
            #[cfg(feature = "shared")]
            tier,
            metrics,
            caches: Registry::default(),
            recent: Recent::new(settings.lanes, clock.now()),
            listeners: Listeners::default(),
            verify: Notify::new(),
            going_out: AtomicUsize::new(0),
            tasks,
            agreement: Agreement::default(),
            runtime: tokio::runtime::Handle::current(),
            phase: watch::Sender::new(Phase::Running),
            started: watch::Sender::new(None),
            // Until it has shown that it is idle.
            busy: AtomicBool::new(true),
            busy_since: AtomicU64::new(clock.now()),
            outages,
            strangers: LogLimit::default(),
            started_at: clock.now(),
            #[cfg(any(test, feature = "test-util"))]
            applied: Lock::default(),
            settings,
        })
    }
}

fn metrics(settings: &Settings, id: u64, bus_kind: BusKind, redis: &str) -> Arc<Metrics> {
    Metrics::new(InstanceInfo {
        id: InstanceId::new(id).to_string(),
        fleet: settings.namespace.clone(),
        bus: bus_kind.as_str(),
        redis: redis.to_owned(),
        lanes: settings.lanes,
        journal: settings.journal,
        verify_interval: settings.verify_interval,
        member_timeout: settings.member_timeout,
        signed: settings.signing_key.is_some(),
    })
}

/// Starts the tasks that run as long as the instance does.
fn spawn_tasks(member: &Arc<Member>, events: mpsc::Receiver<BusEvent>) {
    let (tasks, runtime) = (&member.tasks, &member.runtime);
    tasks.spawn(
        runtime,
        "coherence",
        Coherence::new(member.clone(), events).run(),
    );
    for lane in 0..member.lane_count() {
        let member = member.clone();
        tasks.spawn(runtime, "publisher", Publisher { member, lane }.run());
    }
    tasks.spawn(runtime, "keeper", keeper::keep(member.clone()));
    if !member.settings.secret_files.is_empty() {
        tasks.spawn(runtime, "secrets", secrets::keep(member.clone()));
    }
}

/// Waits for the first verification, at most until the deadline: after it the instance is degraded.
///
/// # Errors
///
/// Redis answered, and this instance may not be part of the fleet; the bus is closed.
async fn first_answer(member: &Arc<Member>, deadline: Moment) -> Result<(), Error> {
    let mut started = member.started.subscribe();
    // Cloned at once: a guard that lived across an await would keep the future from being spawned.
    let answered = async { started.wait_for(Option::is_some).await.ok()?.clone() };
    if let Ok(Some(Err(error))) = timeout_at(deadline, answered).await {
        close(member);
        member.bus.close(StillOpen::default()).await;
        return Err(error);
    }
    member.log_start();
    Ok(())
}
