//! The task that keeps one instance coherent: it consumes the bus in order, repairs gaps and
//! sends the verifications.
//!
//! One task owns every lane's follower, so nothing here is locked, and handling is never spawned
//! per message.

mod inbound;
mod passed;
mod replies;
mod rounds;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{BusEvent, Known, Position};
use crate::core::{Core, Phase};
use crate::follower::{Follower, Round};
use crate::log::LogLimit;
use crate::metrics::Gap;
use crate::time::Nanos;
use crate::without::{Mechanism, without};
use passed::Passed;
use replies::Reply;
use rounds::Pace;

/// How long an event that Redis has may be on its way before the journal is asked for it.
const GRACE: Duration = Duration::from_millis(20);

/// Messages of a lane that wait while its gap is repaired. Beyond it they are dropped, which is
/// one more gap.
const STASH: usize = 4_096;

/// Bytes of the payloads that wait in all lanes together: two lanes full of our own largest messages.
const STASH_BYTES: usize = 64 << 20;

/// Epochs that a lane remembers to have left: one for each restart, failover or flush of its server.
const LEFT: usize = 64;

/// Events taken from the bus before replies and timers get their turn.
const BURST: usize = 128;

/// See the module's documentation.
pub(crate) struct Link {
    core: Arc<Core>,
    events: mpsc::Receiver<BusEvent>,
    lanes: Vec<InLane>,
    replies: JoinSet<Reply>,
    /// The round that was sent last.
    round: Round,
    /// The last round in which lane 0 had the number of lanes that this instance has.
    agreed: Option<Round>,
    /// Bytes of the payloads in all lanes' stashes.
    stashed: usize,
    log: LogLimit,
}

/// The inbound side of one lane.
struct InLane {
    follower: Follower,
    passed: Passed,
    stash: VecDeque<(Position, Bytes)>,
    /// When to ask the journal for what has not arrived.
    overdue: Option<Instant>,
    /// The subscription was interrupted: what is missing is not on its way.
    interrupted: bool,
    /// The fleet has known this instance.
    registered: bool,
    pace: Pace,
    /// The round whose answer was last adopted.
    adopted: Round,
    /// The lane's answer was that it has another number of lanes.
    disagrees: bool,
    /// Another event was heard in a place that was passed, since the lane's life was adopted.
    taken: bool,
    /// Epochs that were left for later ones: the server must not come back to any of them.
    left: VecDeque<u64>,
    /// The one of them that it has come back to.
    back_in: Option<u64>,
    /// A repair has failed: messages ask for no other before.
    repair_after: Option<Instant>,
    /// Proven, and not counted before lane 0 confirms the number of lanes.
    proven: Option<Nanos>,
}

impl InLane {
    fn new() -> Self {
        Self {
            follower: Follower::default(),
            passed: Passed::default(),
            stash: VecDeque::new(),
            overdue: None,
            interrupted: false,
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
}

impl InLane {
    /// What a verification tells the server of this lane.
    fn known(&self) -> Known {
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
    fn is_back(&mut self, epoch: u64) -> bool {
        let back = self.left.contains(&epoch) && !without(Mechanism::BackwardPositions);
        self.back_in = back.then_some(epoch);
        back
    }

    /// The lane's life is over that began in this epoch.
    fn leave(&mut self, epoch: u64) {
        if self.left.len() >= LEFT {
            self.left.pop_front();
        }
        self.left.push_back(epoch);
    }
}

impl Link {
    pub(crate) fn new(core: Arc<Core>, events: mpsc::Receiver<BusEvent>) -> Self {
        let lanes = core.lanes.iter().map(|_| InLane::new()).collect();
        Self {
            core,
            events,
            lanes,
            replies: JoinSet::new(),
            round: 0,
            agreed: None,
            stashed: 0,
            log: LogLimit::default(),
        }
    }

    /// Runs until the instance is closed. Replies and timers come before events: they are few, and
    /// a flood of events must not starve them.
    pub(crate) async fn run(mut self) {
        let mut phase = self.core.phase.subscribe();
        let mut burst = Vec::with_capacity(BURST);
        let core = self.core.clone();
        loop {
            let timer = self.next_timer();
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
                Some(reply) = self.replies.join_next() => {
                    // Otherwise the runtime is shut down, and this task with it.
                    if let Ok(reply) = reply {
                        self.on_reply(reply);
                        #[cfg(any(test, feature = "test-util"))]
                        self.note_applied();
                    }
                }
                () = core.nudge.notified() => self.on_nudge(),
                () = tokio::time::sleep_until(timer) => self.on_timer(),
                taken = self.events.recv_many(&mut burst, BURST) => {
                    if taken == 0 {
                        return;
                    }
                    for event in burst.drain(..) {
                        self.on_event(event);
                    }
                    #[cfg(any(test, feature = "test-util"))]
                    self.note_applied();
                }
            }
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    fn note_applied(&self) {
        let mut applied = self.core.applied.lock();
        for (lane, state) in (0..).zip(&self.lanes) {
            if let Some(position) = state.follower.applied() {
                applied.insert(lane, position);
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(60);
        let overdue = self.lanes.iter().filter_map(|lane| lane.overdue);
        let due = self.lanes.iter().filter_map(|lane| lane.pace.due());
        overdue.chain(due).fold(far, Instant::min)
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        for lane in 0..self.core.lane_count() {
            let state = &mut self.lanes[lane as usize];
            if state.overdue.is_some_and(|at| at <= now) {
                state.overdue = None;
                if let Some(repair) = state.follower.repair_silence() {
                    // With a key every event is asked for; see `Follower::hint`.
                    if !self.core.seal.is_keyed() {
                        self.core.metrics.gaps[Gap::Silent].inc();
                    }
                    self.read_journal(lane, repair);
                }
            }
        }
        self.verify_what_is_due(now);
    }

    /// Verifications were asked for: by reads, by a start, by an instance that is idle no more.
    fn on_nudge(&mut self) {
        let now = Instant::now();
        for (out, state) in self.core.lanes.iter().zip(&mut self.lanes) {
            if out.verify_now.swap(false, Relaxed) {
                state.pace.hurry(now);
            }
        }
    }
}
