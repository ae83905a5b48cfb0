//! The task that keeps one instance coherent: it consumes the bus in order, repairs gaps and
//! sends the verifications.
//!
//! One task owns every lane's follower, so nothing here is locked, and handling is never spawned
//! per message.

mod inbound;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{BusEvent, Journal, Mend, Position, Verified};
use crate::core::{Core, Phase};
use crate::follower::{Follower, Learned, Mended, Repair, Round};
use crate::log::LogLimit;
use crate::metrics::{Fence, Gap, Mended as MendedHow, Repair as RepairOutcome, Verification};
use crate::time::Nanos;
use crate::without::{Mechanism, without};
use crate::writes::reregister;
use crate::{Error, ErrorKind};

/// How long an event that Redis has may be on its way before the journal is asked for it.
const GRACE: Duration = Duration::from_millis(20);

/// Messages of a lane that wait while its gap is repaired. Beyond it they are dropped, which is
/// one more gap.
const STASH: usize = 4_096;

/// Events taken from the bus before replies and timers get their turn.
const BURST: usize = 128;

/// See the module's documentation.
pub(crate) struct Link {
    core: Arc<Core>,
    events: mpsc::Receiver<BusEvent>,
    lanes: Vec<InLane>,
    replies: JoinSet<Reply>,
    round: Round,
    /// Verifications of the present round that have not answered.
    outstanding: usize,
    next_round: Instant,
    log: LogLimit,
}

/// The inbound side of one lane.
#[derive(Default)]
struct InLane {
    follower: Follower,
    stash: VecDeque<(Position, Bytes)>,
    /// When to ask the journal for what has not arrived.
    overdue: Option<Instant>,
    /// The subscription was interrupted: what is missing is not on its way.
    interrupted: bool,
    /// The fleet has known this instance.
    registered: bool,
}

enum Reply {
    Verified {
        lane: u32,
        round: Round,
        sent_at: Nanos,
        result: Result<Verified, Error>,
    },
    Journal {
        lane: u32,
        repair: Repair,
        result: Result<Journal, Error>,
    },
}

impl Link {
    pub(crate) fn new(core: Arc<Core>, events: mpsc::Receiver<BusEvent>) -> Self {
        let lanes = core.lanes.iter().map(|_| InLane::default()).collect();
        let log = LogLimit::default();
        let next_round = Instant::now();
        let replies = JoinSet::new();
        Self {
            core,
            events,
            lanes,
            replies,
            round: 0,
            outstanding: 0,
            next_round,
            log,
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
                Some(reply) = self.replies.join_next() => match reply {
                    Ok(reply) => {
                        self.on_reply(reply);
                        #[cfg(any(test, feature = "test-util"))]
                        self.note_applied();
                    }
                    // A reply's task never panics; if it did, the round must still end.
                    Err(_) => self.outstanding = self.outstanding.saturating_sub(1),
                },
                () = core.nudge.notified() => self.next_round = Instant::now(),
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
        let mut applied = self.core.applied.lock().expect("nobody panics under it");
        for (lane, state) in (0..).zip(&self.lanes) {
            if let Some(position) = state.follower.applied() {
                applied.insert(lane, position);
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(60);
        let round = if self.outstanding == 0 {
            self.next_round
        } else {
            far
        };
        self.lanes
            .iter()
            .filter_map(|lane| lane.overdue)
            .fold(round, Instant::min)
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
        if self.outstanding == 0 && self.next_round <= now {
            self.verify();
        }
    }

    /// Sends one round of verifications, one for each lane.
    fn verify(&mut self) {
        self.round += 1;
        self.next_round = Instant::now() + self.interval();
        for lane in 0..self.core.lane_count() {
            let (core, round) = (self.core.clone(), self.round);
            self.outstanding += 1;
            self.replies.spawn(async move {
                // To the nanosecond: see `Inner::caught_up`. A hit's clock may lag behind it by one
                // step, which is taken off the bound.
                let sent_at = core.clock.precise();
                let result = core.bus.verify(lane).await;
                Reply::Verified {
                    lane,
                    round,
                    sent_at,
                    result,
                }
            });
        }
    }

    /// An instance that serves no reads, has no open writes and waits for no confirmation only
    /// shows that it is alive; the first read wakes it.
    fn interval(&self) -> Duration {
        let settings = &self.core.settings;
        let waits = self.lanes.iter().any(|lane| lane.follower.behind())
            || self.core.lanes.iter().any(|lane| !lane.outbox().settled())
            || self
                .core
                .lanes
                .iter()
                .any(|lane| lane.failing.load(Relaxed))
            || self.core.writes.len() > 0;
        if waits || self.core.busy.load(Relaxed) {
            settings.verify_interval
        } else {
            settings.member_timeout / 2
        }
    }

    fn read_journal(&mut self, lane: u32, repair: Repair) {
        let core = self.core.clone();
        self.replies.spawn(async move {
            let result = core.bus.journal(lane, repair.after).await;
            Reply::Journal {
                lane,
                repair,
                result,
            }
        });
    }

    fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Verified {
                lane,
                round,
                sent_at,
                result,
            } => {
                self.outstanding -= 1;
                match result {
                    Ok(verified) => self.on_verified(lane, round, sent_at, verified),
                    Err(error) => self.on_failure(lane, error),
                }
            }
            Reply::Journal {
                lane,
                repair,
                result: Ok(journal),
            } => {
                self.on_journal(lane, repair, journal);
            }
            Reply::Journal {
                lane,
                repair,
                result: Err(_),
            } => {
                self.core.metrics.repairs[RepairOutcome::Failed].inc();
                self.lanes[lane as usize]
                    .follower
                    .abandon_repair(repair.number);
                self.unstash(lane);
            }
        }
    }

    fn on_verified(&mut self, lane: u32, round: Round, sent_at: Nanos, verified: Verified) {
        let core = self.core.clone();
        let state = &mut self.lanes[lane as usize];
        core.metrics.verifications[Verification::Ok].inc();
        core.metrics
            .recovered_writes
            .add(u64::from(verified.recovered));
        if !verified.known && std::mem::replace(&mut state.registered, true) {
            reregister(&core, lane);
        }
        state.registered = true;
        if let Some(how) = state.follower.deaf() {
            core.metrics.mends[MendedHow::from(how)].inc();
            core.bus.mend(how);
        }
        let interrupted = std::mem::take(&mut state.interrupted);
        if interrupted {
            state.follower.learn_interrupted(verified.head);
        }
        match state.follower.learn(round, sent_at, verified.head) {
            Learned::Outdated => {
                // What was missed is for the next round to repair.
                state.interrupted |= interrupted;
                self.next_round = Instant::now();
            }
            Learned::Adopted { first } => {
                self.announce_applied(lane);
                let state = &mut self.lanes[lane as usize];
                if !without(Mechanism::FenceAfterAdoption) {
                    core.fence(lane, if first { Fence::Adopted } else { Fence::Epoch });
                }
                state.overdue = None;
                self.vouch(lane, sent_at);
                self.unstash(lane);
            }
            Learned::Current => self.vouch_if_proven(lane),
            Learned::Behind if without(Mechanism::Verification) => self.vouch(lane, sent_at),
            Learned::Behind if interrupted => {
                if let Some(repair) = state.follower.repair(verified.head.sequence) {
                    self.read_journal(lane, repair);
                }
            }
            Learned::Behind => {
                state.overdue.get_or_insert(Instant::now() + GRACE);
            }
        }
        self.republish(lane, verified.head, sent_at);
        let out = &core.lanes[lane as usize];
        if out.failing.swap(false, Relaxed) {
            tracing::info!(lane, "coherent: the lane is verified");
        }
        // Not before every lane has answered: another one's answer may be that the start is refused.
        if !core.lanes.iter().any(|lane| lane.failing.load(Relaxed)) {
            core.started.send_if_modified(|started| match started {
                Some(_) => false,
                None => started.replace(Ok(())).is_none(),
            });
        }
    }

    /// Events that a failover has lost go out again.
    fn republish(&self, lane: u32, head: Position, sent_at: Nanos) {
        let out = &self.core.lanes[lane as usize];
        let clock = self.core.clock;
        // By the clock that acknowledgements are noted with, which lags by one step at most.
        let sent_at = sent_at.saturating_sub(clock.step());
        let again = out.outbox().confirm(head, sent_at, clock.now());
        if again > 0 {
            self.core.metrics.republished.add(again as u64);
            out.work.notify_one();
        }
    }

    fn on_failure(&mut self, lane: u32, error: Error) {
        let core = &self.core;
        core.metrics.verifications[Verification::Failed].inc();
        core.lanes[lane as usize].failing.store(true, Relaxed);
        if let Some(suppressed) = core.outages.allow(core.clock.now()) {
            let bound = core.settings.max_staleness;
            tracing::warn!(
                lane, suppressed, %error, ?bound,
                "degraded: the lane cannot be verified; once the bound has passed, entries are \
                 loaded again instead of served. Check Redis and the network"
            );
        }
        if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Lanes) {
            core.started.send_if_modified(|started| match started {
                Some(_) => false,
                None => started.replace(Err(error)).is_none(),
            });
        }
    }

    fn on_journal(&mut self, lane: u32, repair: Repair, journal: Journal) {
        let core = self.core.clone();
        let state = &mut self.lanes[lane as usize];
        let epoch = journal.head.epoch;
        let mended = state.follower.mended(repair.number, journal, self.round);
        self.announce_applied(lane);
        match mended {
            Mended::Obsolete => return,
            Mended::Events { events, done } => {
                let missed = self.apply_journal(lane, epoch, &events);
                let state = &mut self.lanes[lane as usize];
                if let Some(rest) = (!done)
                    .then(|| state.follower.repair_rest(repair))
                    .flatten()
                {
                    self.read_journal(lane, rest);
                    return;
                }
                // With a key the journal is read after every event: it repairs what was missed only.
                if missed > 0 || !core.seal.is_keyed() {
                    core.metrics.repairs[RepairOutcome::Repaired].inc();
                }
                self.vouch_if_proven(lane);
            }
            Mended::Fence => {
                core.fence(lane, Fence::Gap);
                core.metrics.repairs[RepairOutcome::Fenced].inc();
                self.next_round = Instant::now();
            }
            Mended::OtherEpoch => {
                core.metrics.repairs[RepairOutcome::Failed].inc();
                self.next_round = Instant::now();
            }
        }
        self.unstash(lane);
    }

    fn vouch_if_proven(&mut self, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        if let Some(at) = state.follower.vouched() {
            if !state.follower.behind() {
                state.overdue = None;
            }
            self.vouch(lane, at);
        }
    }

    fn vouch(&self, lane: u32, at: Nanos) {
        self.core.stamps.lane_at(lane).verify(at);
    }
}

impl From<Mend> for MendedHow {
    fn from(how: Mend) -> Self {
        match how {
            Mend::Resubscribe => Self::Resubscribe,
            Mend::Reconnect => Self::Reconnect,
        }
    }
}
