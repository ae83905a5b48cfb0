//! What the parts of one instance share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::bus::{Bus, IntentId, Position};
use crate::contain::contained;
use crate::event::{Op, Seal, What};
use crate::lock::{Guard, Lock};
use crate::log::LogLimit;
use crate::metrics::{Collapse, Fence, Metrics};
use crate::outbox::own::Own;
use crate::outbox::{Collapsed, Item, Outbox, Waiter};
use crate::settings::Settings;
use crate::store::stamps::{Stamps, lane_of};
use crate::tasks::Tasks;
use crate::time::{Clock, Nanos, nanos};
use crate::without::{Mechanism, without};
use crate::writes::Writes;
use crate::{Error, ErrorKind};

/// A cache as events see it.
pub(crate) trait Target: Send + Sync {
    fn name(&self) -> &str;
    /// Drops what an op names, unless it was written with another format of keys: then everything.
    fn apply(&self, format: u32, what: &What);
    /// Drops one item that this instance invalidates.
    fn drop_local(&self, item: Item);
    /// Its last handle is gone: what is still loaded for it is not stored.
    fn retire(&self);
    /// Brings its gauges up to date and returns how many reads it has served so far.
    fn measure(&self) -> u64;
}

/// How long a verification may take: two commands, with the question for the primaries between them.
const VERIFICATION: Duration = Duration::from_secs(2);

/// How long a publication or an announcement waits for lane 0 to confirm the number of lanes.
const AGREEMENT_WAIT: Duration = Duration::from_secs(1);

/// One incarnation of this process in the fleet.
pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) lanes: Vec<OutLane>,
    pub(crate) seal: Seal,
    pub(crate) writes: Writes,
    /// A cache of this instance uses the shared tier.
    pub(crate) shares: AtomicBool,
    #[cfg(feature = "shared")]
    pub(crate) calls: crate::shared::calls::Calls,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) caches: Lock<BTreeMap<u32, Weak<dyn Target>>>,
    /// Wakes the link for the lanes that are to be verified now.
    pub(crate) nudge: Notify,
    /// The tasks that the instance needs, and whether they run.
    pub(crate) tasks: Arc<Tasks>,
    /// Whether the fleet has the number of lanes that this instance has.
    pub(crate) agreement: watch::Sender<Agreement>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) phase: watch::Sender<Phase>,
    /// The outcome of the first verification that says something.
    pub(crate) started: watch::Sender<Option<Result<(), Error>>>,
    /// Reads were served, or writes are open: verify at the full rate.
    pub(crate) busy: AtomicBool,
    /// When it last became busy.
    pub(crate) busy_since: AtomicU64,
    /// One line for all that follows from a Redis that is away or slow.
    pub(crate) outages: Arc<LogLimit>,
    /// Another instance has this one's id.
    pub(crate) strangers: LogLimit,
    pub(crate) started_at: Nanos,
    /// What each lane has applied, for tests that judge causality.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) applied: Lock<BTreeMap<u32, crate::bus::Position>>,
}

/// What is known of the fleet's number of lanes.
#[derive(Clone, Debug)]
pub(crate) enum Agreement {
    /// Lane 0 has not answered yet.
    Unknown,
    Agreed,
    /// A lane has another number: nothing is verified, announced or published.
    Refused(Error),
}

/// The outbound side of one lane.
#[derive(Debug)]
pub(crate) struct OutLane {
    outbox: Lock<Outbox>,
    pub(crate) work: Notify,
    /// A verification was asked for.
    pub(crate) verify_now: AtomicBool,
    /// A message has been taken and is not acknowledged yet.
    pub(crate) in_flight: AtomicBool,
    /// The last verification of the lane failed.
    pub(crate) failing: AtomicBool,
    /// Why the last publication failed, for callers who stop waiting.
    trouble: Lock<Option<Error>>,
    /// Everything up to here is applied here, or about to be: never less than any token has seen.
    applied: Lock<Option<Position>>,
    /// The last own event that was applied again once it was acknowledged.
    echoed: Lock<Option<Position>>,
    pub(crate) own: Own,
}

/// The life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// No new writes; what is queued still goes out.
    Draining,
    Closed,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl OutLane {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            outbox: Lock::new(Outbox::new(bound)),
            work: Notify::new(),
            verify_now: AtomicBool::new(false),
            in_flight: AtomicBool::new(false),
            failing: AtomicBool::new(true),
            trouble: Lock::new(None),
            applied: Lock::new(None),
            echoed: Lock::new(None),
            own: Own::default(),
        }
    }

    #[cfg(feature = "shared")]
    pub(crate) fn applied(&self) -> Option<Position> {
        *self.applied.lock()
    }

    /// Before it is applied, or fenced off:
    /// 1: an event is applied; 2: a read takes its token, which has seen it; 3: the read compares
    /// what a server answers with what is applied, and must know of the event.
    pub(crate) fn applies(&self, position: Option<Position>) {
        *self.applied.lock() = position;
    }

    /// Whether the own event at this position was applied again already.
    fn was_echoed(&self, position: Position) -> bool {
        let echoed = *self.echoed.lock();
        echoed
            .is_some_and(|last| last.epoch == position.epoch && last.sequence >= position.sequence)
    }

    fn set_echoed(&self, position: Position) {
        *self.echoed.lock() = Some(position);
    }

    pub(crate) fn outbox(&self) -> Guard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Notes why a publication failed, or that one succeeded.
    pub(crate) fn set_trouble(&self, trouble: Option<Error>) {
        let before = std::mem::replace(&mut *self.trouble.lock(), trouble);
        // An error may have a source of the program's own: not under the lock.
        drop(before);
    }
}

impl Core {
    pub(crate) fn lane_count(&self) -> u32 {
        self.lanes.len() as u32
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The cache an op names.
    pub(crate) fn target(&self, cache: u32) -> Option<Arc<dyn Target>> {
        let cache = self.caches.lock().get(&cache).cloned();
        cache.and_then(|cache| cache.upgrade())
    }

    /// Enters a cache by its id, unless another that is in use has it: that one is returned.
    pub(crate) fn register(&self, id: u32, cache: &Weak<dyn Target>) -> Option<Arc<dyn Target>> {
        let mut caches = self.caches.lock();
        // Given back, not dropped here: with its last handle go its values.
        let other = caches.get(&id).and_then(Weak::upgrade);
        if other.is_none() {
            caches.insert(id, cache.clone());
        }
        other
    }

    pub(crate) fn targets(&self) -> Vec<Arc<dyn Target>> {
        let caches: Vec<_> = self.caches.lock().values().cloned().collect();
        caches.iter().filter_map(Weak::upgrade).collect()
    }

    /// Puts items into the outboxes of the lanes they concern and wakes their publishers.
    pub(crate) fn enqueue(
        &self,
        items: &[Item],
        clear: Option<IntentId>,
    ) -> Result<Vec<Waiter>, Error> {
        // To the nanosecond: it is where `unstale_publish_seconds` begins.
        let now = self.clock.precise();
        let mut waiters = Vec::new();
        for (lane, out) in (0..).zip(&self.lanes) {
            let mut mine = items
                .iter()
                .filter(|item| self.concerns(item, lane))
                .peekable();
            if mine.peek().is_none() {
                continue;
            }
            let mut outbox = out.outbox();
            let waiter = outbox
                .push(mine.copied(), clear, now)
                .ok_or_else(Error::closed)?;
            let collapsed = outbox.shrink();
            drop(outbox);
            self.note_collapse(lane, collapsed);
            waiters.push(waiter);
            out.work.notify_one();
        }
        Ok(waiters)
    }

    /// A key concerns its lane; a tag and a cache concern every lane.
    pub(crate) fn concerns(&self, item: &Item, lane: u32) -> bool {
        match item {
            Item::Key { hash, .. } => lane_of(*hash, self.lane_count()) == lane,
            Item::Tag { .. } | Item::Cache { .. } => true,
        }
    }

    pub(crate) fn note_collapse(&self, lane: u32, collapsed: Option<Collapsed>) {
        let Some(collapsed) = collapsed else { return };
        let to = match collapsed {
            Collapsed::ToCaches => Collapse::Cache,
            Collapsed::ToLane => Collapse::Lane,
        };
        self.metrics.collapses[to].inc();
        if let Some(suppressed) = self.outages.allow(self.clock.now()) {
            tracing::warn!(
                lane,
                suppressed,
                "more invalidations are waiting than UNSTALE_OUTBOX allows: whole caches will be \
                 invalidated instead of keys; check Redis, or raise UNSTALE_OUTBOX"
            );
        }
    }

    /// Waits until Redis has acknowledged, at most `publish_timeout`.
    pub(crate) async fn acknowledged(&self, waiters: Vec<Waiter>) -> Result<(), Error> {
        let all = async {
            for mut waiter in waiters {
                match waiter.wait_for(Option::is_some).await {
                    Ok(answer) => answer.clone().expect("waited for it")?,
                    Err(_) => return Err(Error::closed()),
                }
            }
            Ok(())
        };
        let answered = async {
            tokio::select! {
                biased;
                answer = all => answer,
                error = self.refused() => Err(error),
            }
        };
        match timeout(self.settings.publish_timeout, answered).await {
            Ok(result) => result,
            Err(_) => Err(self.unacknowledged()),
        }
    }

    /// Waits until it turns out that the fleet has another number of lanes.
    async fn refused(&self) -> Error {
        let mut agreement = self.agreement.subscribe();
        let refused = agreement
            .wait_for(|agreement| matches!(agreement, Agreement::Refused(_)))
            .await;
        match refused.as_deref() {
            Ok(Agreement::Refused(error)) => error.clone(),
            _ => Error::closed(),
        }
    }

    /// Waits until it is known that the fleet has the number of lanes that this instance has: what
    /// is announced or published in another number of lanes is heard by no peer.
    pub(crate) async fn agreed(&self) -> Result<(), Error> {
        if without(Mechanism::AgreedLanes) {
            return Ok(());
        }
        let mut agreement = self.agreement.subscribe();
        let known = agreement.wait_for(|agreement| !matches!(agreement, Agreement::Unknown));
        match timeout(AGREEMENT_WAIT, known)
            .await
            .map(|known| known.map(|it| it.clone()))
        {
            Ok(Ok(Agreement::Refused(error))) => Err(error),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::new(
                ErrorKind::Bus,
                "Redis has not confirmed the number of lanes yet: check Redis and the network",
            )),
        }
    }

    /// A lane has another number of lanes; whether that is news.
    pub(crate) fn refuse(&self, error: Error) -> bool {
        let before = self.agreement.send_replace(Agreement::Refused(error));
        !matches!(before, Agreement::Refused(_))
    }

    fn unacknowledged(&self) -> Error {
        let waited = humantime::format_duration(self.settings.publish_timeout);
        let trouble = self
            .lanes
            .iter()
            .find_map(|lane| lane.trouble.lock().clone());
        let message = format!("Redis did not acknowledge within {waited}; it will be retried");
        match trouble {
            Some(error) => Error::with_source(ErrorKind::Bus, message, error),
            None => Error::new(ErrorKind::Bus, message),
        }
    }

    /// Applies an event of a peer. Returns false if it named a cache nobody built here.
    pub(crate) fn apply(&self, lane: u32, ops: &[Op]) -> bool {
        let mut known = true;
        for Op {
            cache,
            format,
            what,
        } in ops
        {
            match (what, self.target(*cache)) {
                (What::Lane, _) => self.fence(lane, Fence::Requested),
                // It drops what belongs to the user, and the cache itself if this is the last handle.
                (_, Some(target)) => {
                    let applied = contained(|| {
                        target.apply(*format, what);
                        drop(target);
                    });
                    if applied.is_none() {
                        self.fence(lane, Fence::Requested);
                    }
                }
                (_, None) => known = false,
            }
        }
        known
    }

    /// From now on this instance uses the shared tier.
    #[cfg(feature = "shared")]
    pub(crate) fn share(&self) {
        self.bus.share();
        self.shares.store(true, SeqCst);
        self.verify_all_now();
    }

    /// Applies an own event again, now that Redis has recorded it. With the shared tier only:
    /// 1: this instance drops a key; 2: a load of its finds the old value in Redis, where it still
    /// counts, and stores it here; 3: the event is published, and recorded there.
    /// Whoever is first does it, the acknowledgement (before the caller is told, so that it reads
    /// its own write) or the echo (should the acknowledgement be lost).
    pub(crate) fn apply_own(&self, lane: u32, position: Option<Position>, ops: &[Op]) {
        let out = &self.lanes[lane as usize];
        let done = position.is_some_and(|position| out.was_echoed(position));
        if self.shares.load(SeqCst) && !done && !without(Mechanism::OwnEchoes) {
            self.apply(lane, ops);
            // After it: what the other one skips has been applied.
            if let Some(position) = position {
                out.set_echoed(position);
            }
        }
    }

    /// As [`fence`](Self::fence), of every lane.
    pub(crate) fn fence_all(&self, cause: Fence) {
        for lane in 0..self.lane_count() {
            self.fence(lane, cause);
        }
    }

    /// Drops everything of a lane at once, loads in flight included.
    pub(crate) fn fence(&self, lane: u32, cause: Fence) {
        self.stamps.fence(lane);
        self.metrics.fences[cause].inc();
    }

    /// Asks for a verification of one lane as soon as may be.
    pub(crate) fn verify_now(&self, lane: u32) {
        self.lanes[lane as usize].verify_now.store(true, Relaxed);
        self.nudge.notify_one();
    }

    /// As [`verify_now`](Self::verify_now), of the lane of a key.
    pub(crate) fn verify_key_now(&self, hash: u64) {
        self.verify_now(lane_of(hash, self.lane_count()));
    }

    /// As [`verify_now`](Self::verify_now), of every lane.
    pub(crate) fn verify_all_now(&self) {
        for lane in &self.lanes {
            lane.verify_now.store(true, Relaxed);
        }
        self.nudge.notify_one();
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Sets whether it is busy; returns whether it was.
    pub(crate) fn set_busy(&self, busy: bool) -> bool {
        if busy && !self.busy.load(Relaxed) {
            self.busy_since.store(self.clock.now(), Relaxed);
        }
        self.busy.swap(busy, Relaxed)
    }

    /// Whether what `health()` calls coherent is true: every task runs, the connection is up, every
    /// lane answered its last verification with the number of lanes of this instance, and each was
    /// verified within the bound.
    pub(crate) fn coherent(&self) -> bool {
        self.tasks.all_run()
            && self.bus.connected()
            && matches!(*self.agreement.borrow(), Agreement::Agreed)
            && !self.lanes.iter().any(|lane| lane.failing.load(Relaxed))
            && self.verified_in_time()
    }

    /// Whether each lane was verified as recently as it should be: within `max_staleness` while it
    /// is read from; an idle instance verifies every `member_timeout / 2` only.
    fn verified_in_time(&self) -> bool {
        let now = self.clock.now();
        let settings = &self.settings;
        let idle = nanos(settings.member_timeout / 2) + nanos(VERIFICATION);
        let awake = now.saturating_sub(self.busy_since.load(Relaxed));
        let bound = match settings.max_staleness {
            // It has just been idle, and verifies now.
            Some(bound) if self.is_busy() && awake > idle => nanos(bound),
            Some(bound) => idle.max(nanos(bound)),
            None => idle.max(nanos(settings.verify_interval) + nanos(VERIFICATION)),
        };
        let mut lanes = self.stamps.lanes();
        lanes.all(|lane| now.saturating_sub(lane.verified_at()) <= bound)
    }
}
