//! The state of this instance in the fleet: what its caches and its tasks share.

#[cfg(any(test, feature = "test-util"))]
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::bus::{Bus, BusKind, IntentId, Position};
use crate::coherence::agreement::Agreement;
use crate::coherence::intents::OpenWrites;
use crate::coherence::lane::OutLane;
use crate::coherence::listeners::Listeners;
use crate::coherence::outbox::{Collapsed, Invalidation, Waiter};
use crate::coherence::recent::{Recent, Sender};
use crate::coherence::registry::Registry;
use crate::coherence::said::StateLog;
use crate::coherence::sources::Sources;
use crate::contain::contained;
use crate::event::{Op, Seal, What};
use crate::identity::InstanceId;
#[cfg(any(test, feature = "test-util"))]
use crate::lock::Lock;
use crate::log::LogLimit;
use crate::metrics::{Collapse, Fence, Metrics, label};
use crate::mutants::{Mechanism, without};
use crate::settings::Settings;
use crate::spans;
use crate::store::stamps::{Stamps, lane_of};
use crate::tasks::Tasks;
use crate::time::{Clock, Nanos, nanos};
use crate::token::Token;
use crate::{Error, ErrorKind};

/// One incarnation of this process in the fleet.
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) bus_kind: BusKind,
    /// The URL of Redis as it may be shown.
    pub(crate) redis: String,
    pub(crate) state_log: StateLog,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) lanes: Vec<OutLane>,
    pub(crate) seal: Seal,
    pub(crate) writes: OpenWrites,
    /// Those that caches name and relays watch.
    pub(crate) sources: Sources,
    /// A cache of this instance uses the shared tier.
    pub(crate) shares: AtomicBool,
    #[cfg(feature = "shared")]
    pub(crate) tier: Arc<crate::tier::pool::Pool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) caches: Registry,
    pub(crate) recent: Recent,
    pub(crate) listeners: Listeners,
    /// Wakes the task of `coherence` for the lanes that are to be verified now.
    pub(crate) verify: Notify,
    /// Calls whose invalidations are not all queued yet.
    pub(crate) going_out: AtomicUsize,
    /// The tasks that the instance needs, and whether they run.
    pub(crate) tasks: Arc<Tasks>,
    /// Whether the fleet has the number of lanes that this instance has.
    pub(crate) agreement: Agreement,
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

/// The life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// No new writes; what is queued still goes out.
    Draining,
    Closed,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Returns the name of this instance in the log, the metrics and the program `unstale`.
    pub(crate) fn name(&self) -> InstanceId {
        InstanceId::new(self.id)
    }

    pub(crate) fn lane_count(&self) -> u32 {
        self.lanes.len() as u32
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Puts items into the outboxes of the lanes they concern and wakes their publishers.
    pub(crate) fn enqueue(
        &self,
        items: &[Invalidation],
        clear: Option<IntentId>,
    ) -> Result<Vec<(u32, Waiter)>, Error> {
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
            waiters.push((lane, waiter));
            out.work.notify_one();
        }
        Ok(waiters)
    }

    /// A key concerns its lane; a tag and a cache concern every lane.
    pub(crate) fn concerns(&self, item: &Invalidation, lane: u32) -> bool {
        match item {
            Invalidation::Key { hash, .. } => lane_of(*hash, self.lane_count()) == lane,
            Invalidation::Tag { .. } | Invalidation::Cache { .. } => true,
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
                instance = %self.name(),
                lane,
                suppressed,
                "more invalidations are waiting than UNSTALE_OUTBOX allows: whole caches will be \
                 invalidated instead of keys; check Redis, or raise UNSTALE_OUTBOX"
            );
        }
    }

    /// Waits until Redis has acknowledged in each of these lanes, at most `publish_timeout`.
    pub(crate) async fn acknowledged(&self, waiters: Vec<(u32, Waiter)>) -> Result<Token, Error> {
        if self.tasks.has_ended("publisher") {
            return Err(self.no_runtime());
        }
        let all = async {
            let mut token = Token::default();
            for (lane, mut waiter) in waiters {
                let position = match waiter.wait_for(Option::is_some).await {
                    Ok(answer) => answer.clone().expect("waited for it")?,
                    Err(_) => return Err(Error::closed()),
                };
                token.merge(&Token::of(self.lane_count(), lane, position));
            }
            Ok(token)
        };
        let answered = async {
            tokio::select! {
                biased;
                answer = all => answer,
                error = self.agreement.refused() => Err(error),
            }
        };
        match timeout(self.settings.publish_timeout, answered).await {
            Ok(result) => result,
            Err(_) => Err(self.unacknowledged()),
        }
    }

    /// The task that publishes has ended.
    fn no_runtime(&self) -> Error {
        let ended = self.tasks.ended().join(", ");
        let message = format!(
            "nothing is published: these tasks of the instance have ended: {ended}. Is the runtime gone that it \
             was started on?"
        );
        Error::new(ErrorKind::Bus, message)
    }

    fn unacknowledged(&self) -> Error {
        let waited = humantime::format_duration(self.settings.publish_timeout);
        let cause = self.lanes.iter().find_map(OutLane::last_error);
        let message = format!("Redis did not acknowledge within {waited}; it will be retried");
        match cause {
            Some(error) => Error::with_source(ErrorKind::Bus, message, error),
            None => Error::new(ErrorKind::Bus, message),
        }
    }

    /// Applies an event of a peer. Returns the id of a cache that it named and that is not built here.
    pub(crate) fn apply(&self, lane: u32, from: Sender, ops: &[Op]) -> Option<u32> {
        let mut unknown = None;
        for op in ops {
            if self.apply_op(lane, from, op) {
                self.note_op(lane, from, op);
            } else {
                unknown = Some(op.cache);
            }
        }
        unknown
    }

    /// Applies one operation; false if it names a cache that is not built here.
    fn apply_op(&self, lane: u32, from: Sender, op: &Op) -> bool {
        match (&op.what, self.caches.get(op.cache)) {
            (What::Lane, _) => self.drop_lane(lane, Fence::Requested),
            // It drops what belongs to the user, and the cache itself if this is the last handle.
            (_, Some(named)) => {
                let applied = contained(|| {
                    named.apply(op.format, &op.what);
                    drop(named);
                });
                if applied.is_none() {
                    self.drop_lane(lane, Fence::Requested);
                    self.note_lane(lane, Some(from), Fence::Requested);
                }
            }
            (_, None) => return false,
        }
        true
    }

    /// Publishes which caches there are, for the programs that look from outside.
    pub(crate) fn tell_caches(&self) {
        if self.bus.set_caches(&self.caches.formats()) {
            self.verify_now(0);
        }
    }

    /// Drops here what this instance invalidates. It comes before the event is published, so that the
    /// publisher itself never serves what its peers have dropped.
    ///
    /// Caches are looked up by id: nothing here keeps one alive, or with it the instance.
    /// 1: a write begins; 2: its cache is dropped, and another one takes the name; 3: the write is
    /// published, and the new cache takes its echo for what it has dropped.
    pub(crate) fn drop_local(&self, items: &[Invalidation]) {
        for item in items {
            let mut dropped_here = false;
            // With the cache may go its last handle, and what its loader holds.
            let dropped = contained(|| {
                if let Some(cache) = self.caches.get(item.cache()) {
                    cache.drop_local(*item);
                    dropped_here = true;
                }
            });
            if dropped.is_none() {
                self.fence_all(Fence::Requested);
            }
            if dropped_here {
                self.note_own(std::slice::from_ref(item));
            }
        }
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
    /// The first of two does it: the acknowledgement (before the call returns, so that it reads
    /// its own write) or the echo (if the acknowledgement is lost).
    pub(crate) fn apply_own(&self, lane: u32, position: Option<Position>, ops: &[Op]) {
        let out = &self.lanes[lane as usize];
        let done = position.is_some_and(|position| out.was_echoed(position));
        if self.shares.load(SeqCst) && !done && !without(Mechanism::OwnEchoes) {
            let own = Sender {
                origin: self.id,
                position,
            };
            for op in ops {
                self.apply_op(lane, own, op);
                self.note_echo(lane, own, op);
            }
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
        self.drop_lane(lane, cause);
        self.note_lane(lane, None, cause);
    }

    fn drop_lane(&self, lane: u32, cause: Fence) {
        self.stamps.fence(lane);
        self.metrics.fences[cause].inc();
        spans::fenced(lane, label(cause));
    }

    /// Asks for a verification of one lane as soon as possible.
    pub(crate) fn verify_now(&self, lane: u32) {
        self.lanes[lane as usize].verify_now.store(true, Relaxed);
        self.verify.notify_one();
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
        self.verify.notify_one();
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

    /// Returns whether what `health()` calls coherent is true: every task runs, the connection is up, every
    /// lane answered its last verification with the number of lanes of this instance, and each was
    /// verified within the bound.
    pub(crate) fn coherent(&self) -> bool {
        self.tasks.all_run()
            && self.bus.connected()
            && self.agreement.is_agreed()
            && !self.lanes.iter().any(|lane| lane.failing.load(Relaxed))
            && self.verified_in_time()
    }

    /// Returns why it is not [`coherent`](Self::coherent), in words; `None` if it is.
    pub(crate) fn doubt(&self) -> Option<String> {
        if self.coherent() {
            return None;
        }
        let ended = self.tasks.ended();
        if !ended.is_empty() {
            return Some(format!("these tasks have ended: {}", ended.join(", ")));
        }
        let failure = self.lanes.iter().find_map(OutLane::unverified);
        Some(match failure {
            Some(error) => error.to_string(),
            None if !self.bus.connected() => "there is no connection to Redis".to_owned(),
            None => "a lane was not verified in time".to_owned(),
        })
    }

    /// Returns whether each lane was verified as recently as it should be: within `max_staleness` while it
    /// is read from; an idle instance verifies every `member_timeout / 2` only.
    fn verified_in_time(&self) -> bool {
        let now = self.clock.now();
        let settings = &self.settings;
        // Two commands, with the question for the primaries between them.
        let verification = nanos(settings.command_timeout * 2);
        let idle = nanos(settings.member_timeout / 2) + verification;
        let awake = now.saturating_sub(self.busy_since.load(Relaxed));
        let bound = match settings.max_staleness {
            // It has just been idle, and verifies now.
            Some(bound) if self.is_busy() && awake > idle => nanos(bound),
            Some(bound) => idle.max(nanos(bound)),
            None => idle.max(nanos(settings.verify_interval) + verification),
        };
        let mut lanes = self.stamps.lanes();
        lanes.all(|lane| now.saturating_sub(lane.verified_at()) <= bound)
    }
}
