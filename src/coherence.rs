//! What keeps the caches of one instance coherent with those of its peers.
//!
//! ```text
//! a call      member.drop_local, member.enqueue -> outbox -> outbound -> bus
//! a write     commit: announce -> the program's commit -> drop, enqueue, clear
//! an event    bus -> coherence -> inbound -> follower (sequence) -> member.apply -> caches
//! a proof     bus -> coherence -> verify -> follower (head) -> the lane's freshness -> reads
//! ```
//!
//! - [`member`]: the state that caches and tasks share; [`lane`]: both sides of one lane;
//!   [`registry`]: the caches; [`recent`]: what was applied last; [`listeners`]: its receivers; [`agreement`]: the fleet's number of lanes; [`lifeline`]: the end
//! - [`inbound`]: events, and what they drop; [`verify`]: verifications, repairs and what they prove;
//!   [`follower`]: one lane's sequence; [`marks`]: what relays prove; [`pace`], [`passed`], [`replies`]:
//!   their tools
//! - [`outbound`]: the task that empties an [`outbox`]; [`own`]: how an instance knows its own events
//! - [`commit`]: crash-safe writes; [`intents`]: those that are open; [`reconcile`]: what Redis
//!   holds of them is kept right, at the pace of [`upkeep`]
//! - [`freshness`], [`wait`]: how a read waits for a verification
//! - [`state`]: what the log says of the instance's state, beside what it has [`said`]; [`unknown`]: and of caches that it has not
//!
//! Invariants: an event is applied before its place is counted; a lane is verified only as of a moment
//! before which everything published was applied or fenced off; after a gap the new position is
//! adopted, then everything held is fenced off, then the lane is verified; what cannot be decided
//! turns into more invalidation. PROTOCOL.md has the reasons.
//!
//! [`Coherence`] is the task that consumes the bus in order. It owns every lane's follower, so nothing
//! here is locked, and handling is never spawned per message.

pub(crate) mod agreement;
pub(crate) mod commit;
pub(crate) mod follower;
pub(crate) mod freshness;
mod inbound;
pub(crate) mod intents;
pub(crate) mod lane;
pub(crate) mod lifeline;
pub(crate) mod listeners;
mod marks;
pub(crate) mod member;
mod noted;
pub(crate) mod origins;
pub(crate) mod outbound;
pub(crate) mod outbox;
pub(crate) mod own;
mod pace;
mod passed;
pub(crate) mod publish;
pub(crate) mod reached;
pub(crate) mod recent;
pub(crate) mod reconcile;
pub(crate) mod registry;
mod replies;
pub(crate) mod said;
pub(crate) mod sources;
mod state;
mod unknown;
mod upkeep;
mod verify;
mod wait;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::BusEvent;
use crate::coherence::follower::Round;
use crate::coherence::lane::InLane;
use crate::coherence::member::{Member, Phase};
use crate::coherence::replies::{Reply, ask_journal};
use crate::coherence::unknown::UnknownCaches;
use crate::log::LogLimit;
use crate::metrics::Gap;

/// Events taken from the bus before replies and timers get their turn.
const BURST: usize = 128;

/// See the module's documentation.
pub(crate) struct Coherence {
    member: Arc<Member>,
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
    unknown: UnknownCaches,
}

impl Coherence {
    pub(crate) fn new(member: Arc<Member>, events: mpsc::Receiver<BusEvent>) -> Self {
        let lanes = member.lanes.iter().map(|_| InLane::new()).collect();
        Self {
            member,
            events,
            lanes,
            replies: JoinSet::new(),
            round: 0,
            agreed: None,
            stashed: 0,
            log: LogLimit::default(),
            unknown: UnknownCaches::default(),
        }
    }

    /// Runs until the instance is closed. Replies and timers come before events: they are few, and
    /// a flood of events must not starve them.
    pub(crate) async fn run(mut self) {
        let mut phase = self.member.phase.subscribe();
        let mut burst = Vec::with_capacity(BURST);
        let member = self.member.clone();
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
                () = member.verify.notified() => self.on_request(),
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
        let mut applied = self.member.applied.lock();
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
        for lane in 0..self.member.lane_count() {
            let state = &mut self.lanes[lane as usize];
            if state.overdue.is_some_and(|at| at <= now) {
                state.overdue = None;
                if let Some(repair) = state.follower.repair_silence() {
                    // With a key every event is asked for; see `Follower::hint`.
                    if !self.member.seal.is_keyed() {
                        self.member.metrics.gaps[Gap::Silent].inc();
                    }
                    ask_journal(&mut self.replies, &self.member, lane, repair);
                }
            }
        }
        self.verify_what_is_due(now);
    }

    /// Verifications were asked for: by reads, by a start, by an instance that is no longer idle.
    fn on_request(&mut self) {
        let now = Instant::now();
        for (out, state) in self.member.lanes.iter().zip(&mut self.lanes) {
            if out.verify_now.swap(false, Relaxed) {
                state.pace.hurry(now);
            }
        }
    }
}
