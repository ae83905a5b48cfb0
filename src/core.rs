//! What the parts of one instance share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::bus::{Bus, IntentId, Position};
use crate::event::{Op, Seal, What};
use crate::log::LogLimit;
use crate::metrics::{Collapse, Fence, Metrics};
use crate::outbox::{Collapsed, Item, Outbox, Waiter};
use crate::settings::Settings;
use crate::store::stamps::{Stamps, lane_of};
use crate::time::{Clock, Nanos};
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
    /// Brings its gauges up to date and returns how many reads it has served so far.
    fn measure(&self) -> u64;
}

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
    pub(crate) caches: RwLock<BTreeMap<u32, Weak<dyn Target>>>,
    /// Asks for a verification now.
    pub(crate) nudge: Notify,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) phase: watch::Sender<Phase>,
    /// The outcome of the first verification that says something.
    pub(crate) started: watch::Sender<Option<Result<(), Error>>>,
    /// Reads were served, or writes are open: verify at the full rate.
    pub(crate) busy: AtomicBool,
    /// One line for all that follows from a Redis that is away or slow.
    pub(crate) outages: Arc<LogLimit>,
    pub(crate) started_at: Nanos,
    /// What each lane has applied, for tests that judge causality.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) applied: Mutex<BTreeMap<u32, crate::bus::Position>>,
}

/// The outbound side of one lane.
#[derive(Debug)]
pub(crate) struct OutLane {
    outbox: Mutex<Outbox>,
    pub(crate) work: Notify,
    /// A message has been taken and is not acknowledged yet.
    pub(crate) in_flight: AtomicBool,
    /// The last verification of the lane failed.
    pub(crate) failing: AtomicBool,
    /// Why the last publication failed, for callers who stop waiting.
    pub(crate) trouble: Mutex<Option<Error>>,
    /// Everything up to here is applied here, or about to be: never less than any token has seen.
    applied: Mutex<Option<Position>>,
    /// The last own event that was applied again once it was acknowledged.
    echoed: Mutex<Option<Position>>,
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
            outbox: Mutex::new(Outbox::new(bound)),
            work: Notify::new(),
            in_flight: AtomicBool::new(false),
            failing: AtomicBool::new(true),
            trouble: Mutex::new(None),
            applied: Mutex::new(None),
            echoed: Mutex::new(None),
        }
    }

    #[cfg(feature = "shared")]
    pub(crate) fn applied(&self) -> Option<Position> {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before it is applied, or fenced off:
    /// 1: an event is applied; 2: a read takes its token, which has seen it; 3: the read compares
    /// what a server answers with what is applied, and must know of the event.
    pub(crate) fn applies(&self, position: Option<Position>) {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// Whether the own event at this position was applied again already.
    fn was_echoed(&self, position: Position) -> bool {
        let echoed = *self.echoed.lock().unwrap_or_else(PoisonError::into_inner);
        echoed
            .is_some_and(|last| last.epoch == position.epoch && last.sequence >= position.sequence)
    }

    fn set_echoed(&self, position: Position) {
        *self.echoed.lock().unwrap_or_else(PoisonError::into_inner) = Some(position);
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
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
        let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
        caches.get(&cache).and_then(Weak::upgrade)
    }

    pub(crate) fn targets(&self) -> Vec<Arc<dyn Target>> {
        let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
        caches.values().filter_map(Weak::upgrade).collect()
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
        match timeout(self.settings.publish_timeout, all).await {
            Ok(result) => result,
            Err(_) => Err(self.unacknowledged()),
        }
    }

    fn unacknowledged(&self) -> Error {
        let waited = humantime::format_duration(self.settings.publish_timeout);
        let trouble = self.lanes.iter().find_map(|lane| {
            lane.trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        });
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
                (_, Some(target)) => target.apply(*format, what),
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
        self.nudge.notify_one();
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

    /// Drops everything of a lane at once, loads in flight included.
    pub(crate) fn fence(&self, lane: u32, cause: Fence) {
        self.stamps.fence(lane);
        self.metrics.fences[cause].inc();
    }

    /// Whether all lanes answered their last verification and the connection is up.
    pub(crate) fn coherent(&self) -> bool {
        self.bus.connected() && !self.lanes.iter().any(|lane| lane.failing.load(Relaxed))
    }
}
