//! One lane of an instance: the side that publishes, which callers share, and the side that listens,
//! which the task of [`coherence`](crate::coherence) owns.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Error;
use crate::bus::{Known, Position};
use crate::coherence::follower::{Follower, Round};
use crate::coherence::marks::Marks;
use crate::coherence::origins::Origins;
use crate::coherence::outbox::Outbox;
use crate::coherence::own::Own;
use crate::coherence::pace::Pace;
use crate::coherence::passed::Passed;
use crate::coherence::reached::Reached;
use crate::lock::{Guard, Lock};
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;

/// Epochs that a lane remembers to have left: one for each restart, failover or flush of its server.
const LEFT: usize = 64;

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
    last_error: Lock<Option<Error>>,
    /// Why the last verification failed.
    unverified: Lock<Option<Error>>,
    /// Everything up to here is applied here, or about to be: never less than any token has seen.
    applied: Lock<Option<Position>>,
    /// Everything up to here is applied here: never more than is.
    pub(crate) reached: Reached,
    /// The last own event that was applied again once it was acknowledged.
    echoed: Lock<Option<Position>>,
    pub(crate) own: Own,
}

impl OutLane {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            outbox: Lock::new(Outbox::new(bound)),
            work: Notify::new(),
            verify_now: AtomicBool::new(false),
            in_flight: AtomicBool::new(false),
            failing: AtomicBool::new(true),
            last_error: Lock::new(None),
            unverified: Lock::new(None),
            applied: Lock::new(None),
            reached: Reached::default(),
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

    /// Returns whether the own event at this position was applied again already.
    pub(crate) fn was_echoed(&self, position: Position) -> bool {
        let echoed = *self.echoed.lock();
        echoed
            .is_some_and(|last| last.epoch == position.epoch && last.sequence >= position.sequence)
    }

    pub(crate) fn set_echoed(&self, position: Position) {
        *self.echoed.lock() = Some(position);
    }

    pub(crate) fn outbox(&self) -> Guard<'_, Outbox> {
        self.outbox.lock()
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// Notes why a publication failed, or that one succeeded.
    pub(crate) fn set_last_error(&self, error: Option<Error>) {
        let before = std::mem::replace(&mut *self.last_error.lock(), error);
        // An error may have a source of the program's own: not under the lock.
        drop(before);
    }

    /// Why the last verification failed; `None` if it did not.
    pub(crate) fn unverified(&self) -> Option<Error> {
        self.unverified.lock().clone()
    }

    /// Notes why a verification failed, or that one succeeded. Returns whether that is news.
    pub(crate) fn set_unverified(&self, error: Option<Error>) -> bool {
        let failing = error.is_some();
        let before = std::mem::replace(&mut *self.unverified.lock(), error);
        drop(before);
        self.failing.swap(failing, Relaxed) != failing
    }

    /// Nothing waits and nothing is in flight.
    pub(crate) fn idle(&self) -> bool {
        self.outbox().is_empty() && !self.in_flight.load(Relaxed)
    }
}

/// The inbound side of one lane.
pub(crate) struct InLane {
    pub(crate) follower: Follower,
    pub(crate) marks: Marks,
    pub(crate) passed: Passed,
    pub(crate) origins: Origins,
    pub(crate) stash: VecDeque<(Position, Bytes)>,
    /// When to ask the journal for what has not arrived.
    pub(crate) overdue: Option<Instant>,
    /// The subscription was interrupted: what is missing is not on its way.
    pub(crate) interrupted: bool,
    /// The server has not answered since its connection was lost: what is heard may be of another server that gives
    /// the same numbers out.
    pub(crate) lost: bool,
    /// Whether the fleet has known this instance.
    pub(crate) registered: bool,
    pub(crate) pace: Pace,
    /// The round whose answer was last adopted.
    pub(crate) adopted: Round,
    /// The lane's answer was that it has another number of lanes.
    pub(crate) disagrees: bool,
    /// Another event was heard in a place that was passed, since the lane's life was adopted.
    pub(crate) taken: bool,
    /// Epochs that were left for later ones: the server must not come back to any of them.
    left: VecDeque<u64>,
    /// The one of them that it has come back to.
    back_in: Option<u64>,
    /// A repair has failed: messages ask for no other before.
    pub(crate) repair_after: Option<Instant>,
    /// Proven, and not counted before lane 0 confirms the number of lanes.
    pub(crate) proven: Option<Nanos>,
}

impl InLane {
    pub(crate) fn new() -> Self {
        Self {
            follower: Follower::default(),
            marks: Marks::default(),
            passed: Passed::default(),
            origins: Origins::default(),
            stash: VecDeque::new(),
            overdue: None,
            interrupted: false,
            lost: false,
            registered: false,
            pace: Pace::new(Instant::now()),
            adopted: 0,
            disagrees: false,
            taken: false,
            left: VecDeque::new(),
            back_in: None,
            repair_after: None,
            proven: None,
        }
    }

    /// Returns what a verification tells the server of this lane.
    pub(crate) fn known(&self) -> Known {
        if without(Mechanism::BackwardPositions) {
            return Known::default();
        }
        match self.back_in {
            Some(epoch) => Known {
                applied: Some(Position { epoch, sequence: 0 }),
                taken: true,
            },
            None => Known {
                applied: self.follower.applied(),
                taken: self.taken,
            },
        }
    }

    /// The server's epoch is one that was left: it holds an older state again. That epoch must end, for
    /// it lacks what came after; until then nothing is learned.
    pub(crate) fn is_back(&mut self, epoch: u64) -> bool {
        let back = self.has_left(epoch);
        self.back_in = back.then_some(epoch);
        back
    }

    /// Returns whether the lane's life has been in this epoch and has left it.
    pub(crate) fn has_left(&self, epoch: u64) -> bool {
        self.left.contains(&epoch) && !without(Mechanism::BackwardPositions)
    }

    /// The lane's life is over that began in this epoch.
    pub(crate) fn leave(&mut self, epoch: u64) {
        if self.left.len() >= LEFT {
            self.left.pop_front();
        }
        self.left.push_back(epoch);
    }
}
