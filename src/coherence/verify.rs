//! When the lanes are verified, and what the answers lead to: proofs, repairs and fences.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use crate::bus::{Journal, Position, SubscriptionRepair, Verified};
use crate::coherence::Coherence;
use crate::coherence::follower::{Learned, Repair, Repaired, Round};
use crate::coherence::marks::Sent;
use crate::coherence::reconcile::reregister;
use crate::coherence::replies::{Reply, ask_journal, ask_verification};
use crate::metrics::{Fence, Gap, Repair as RepairOutcome, SubscriptionMethod, Verification};
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;
use crate::{Error, ErrorKind};

/// How long an event that Redis has may be on its way before the journal is asked for it.
const GRACE: Duration = Duration::from_millis(20);

/// The pause after a repair that failed: otherwise a journal that is refused at once would be asked for by every
/// message.
const REPAIR_PAUSE: Duration = Duration::from_millis(50);

impl Coherence {
    /// Sends one round: a verification of each lane that is due. Those that are due soon come along,
    /// so that one question for the primaries answers for all; those that have not answered yet
    /// keep no other waiting.
    pub(super) fn verify_what_is_due(&mut self, now: Instant) {
        let interval = self.interval();
        if !self.lanes.iter().any(|lane| lane.pace.is_due(now)) {
            return;
        }
        self.round += 1;
        let round = self.round;
        for lane in 0..self.member.lane_count() {
            let state = &mut self.lanes[lane as usize];
            if !state.pace.is_due(now + interval / 2) || !state.pace.may_be_sent(now) {
                continue;
            }
            state.pace.sent(now, interval);
            state.follower.ask(round);
            let known = state.known();
            ask_verification(&mut self.replies, &self.member, (lane, round), known);
        }
    }

    /// An instance that serves no reads, has no open writes and waits for no confirmation only
    /// shows that it is alive; the first read wakes it.
    fn interval(&self) -> Duration {
        let settings = &self.member.settings;
        let lanes = &self.member.lanes;
        let waits = self.lanes.iter().any(|lane| lane.follower.behind())
            || lanes.iter().any(|lane| !lane.outbox().settled())
            || lanes.iter().any(|lane| lane.failing.load(Relaxed))
            || self.member.writes.len() > 0;
        if waits || self.member.is_busy() {
            settings.verify_interval
        } else {
            settings.member_timeout / 2
        }
    }

    /// Asks for a verification of a lane as soon as possible.
    pub(super) fn verify_soon(&mut self, lane: u32) {
        self.lanes[lane as usize].pace.hurry(Instant::now());
    }

    pub(super) fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Verified {
                lane,
                round,
                sent,
                result: Ok(verified),
            } => {
                self.lanes[lane as usize].pace.succeeded();
                self.on_verified(lane, round, sent, verified);
            }
            Reply::Verified {
                lane,
                result: Err(error),
                ..
            } => self.on_failure(lane, error),
            Reply::Journal {
                lane,
                repair,
                span,
                result: Ok(journal),
            } => self.on_journal(lane, (repair, span), journal),
            Reply::Journal {
                lane,
                repair,
                span,
                result: Err(_),
            } => {
                let repairs = &self.member.metrics.repairs;
                repairs.note(RepairOutcome::Failed, &span);
                let state = &mut self.lanes[lane as usize];
                state.follower.abandon_repair(repair.number);
                state.repair_after = Some(Instant::now() + REPAIR_PAUSE);
                self.unstash(lane);
            }
        }
    }

    fn on_verified(&mut self, lane: u32, round: Round, sent: Sent, verified: Verified) {
        let sent_at = sent.at;
        let member = self.member.clone();
        member.metrics.verifications[Verification::Ok].inc();
        member
            .metrics
            .recovered_writes
            .add(u64::from(verified.recovered));
        member.metrics.delivery_pause[lane].set(verified.pause);
        if let Some(others) = verified.others {
            member.state_log.set_others(others);
        }
        self.agree(lane, round);
        let state = &mut self.lanes[lane as usize];
        let forgotten = !verified.known && state.registered;
        state.registered = true;
        if let Some(how) = state.follower.repair_needed() {
            member.metrics.subscription_repairs[SubscriptionMethod::from(how)].inc();
            member.bus.repair_subscription(how);
        }
        let interrupted = std::mem::take(&mut state.interrupted);
        let wait = verified.wait;
        if state.is_back(verified.head.epoch) {
            state.interrupted |= interrupted;
            self.member.metrics.gaps[Gap::Epoch].inc();
            self.verify_soon(lane);
            return;
        }
        if interrupted {
            state.follower.learn_interrupted(verified.head);
        }
        let before = state.follower.applied();
        let learned = state.follower.learn(round, sent_at, verified.head);
        let adopted = matches!(learned, Learned::Adopted { .. });
        if learned != Learned::Outdated {
            state.lost = false;
            state.marks.learn(sent, verified.head, &verified.counted);
        }
        if let Some(before) = before.filter(|before| adopted && before.epoch != verified.head.epoch)
        {
            state.leave(before.epoch);
        }
        match learned {
            Learned::Outdated => {
                // What was missed is for the next round to repair.
                state.interrupted |= interrupted;
                self.verify_soon(lane);
            }
            Learned::Adopted { first } => self.adopt(lane, round, first, sent_at),
            Learned::Current => self.verify_if_proven(lane),
            Learned::Behind if without(Mechanism::Verification) => self.verify(lane, sent_at),
            Learned::Behind if interrupted => {
                if let Some(repair) = state.follower.repair(verified.head.sequence) {
                    ask_journal(&mut self.replies, &self.member, lane, repair);
                }
            }
            Learned::Behind => {
                let arrives = Instant::now() + GRACE + wait;
                state.overdue.get_or_insert(arrives);
            }
        }
        // A promoted replica may lack the latest announcements and still know their writer.
        if forgotten || (adopted && !without(Mechanism::AnnouncementAfterAdoption)) {
            reregister(&member, lane);
        }
        self.republish(lane, verified.head, sent_at);
        self.note_success(lane);
    }

    /// The lane has another life: its head was adopted, and what was held before is dropped *now*.
    fn adopt(&mut self, lane: u32, round: Round, first: bool, sent_at: Nanos) {
        self.announce_applied(lane);
        if !without(Mechanism::FenceAfterAdoption) {
            let cause = if first { Fence::Adopted } else { Fence::Epoch };
            self.member.fence(lane, cause);
        }
        let state = &mut self.lanes[lane as usize];
        state.passed.clear();
        state.taken = false;
        state.overdue = None;
        state.adopted = round;
        self.announce_reached(lane);
        self.verify(lane, sent_at);
        self.unstash(lane);
    }

    fn note_success(&self, lane: u32) {
        let member = &self.member;
        if member.lanes[lane as usize].set_unverified(None) {
            tracing::debug!(lane, "the lane is verified");
        }
        // Not before every lane has answered: another one's answer may be that the start is refused.
        if !member.lanes.iter().any(|lane| lane.failing.load(Relaxed)) {
            member.started.send_if_modified(|started| match started {
                Some(_) => false,
                None => started.replace(Ok(())).is_none(),
            });
        }
    }

    /// Events that a failover has lost go out again.
    fn republish(&self, lane: u32, head: Position, sent_at: Nanos) {
        let out = &self.member.lanes[lane as usize];
        // Acknowledgements and verifications are noted by the same clock, which does not lag.
        let again = out.outbox().confirm(head, sent_at, self.member.clock.now());
        if again > 0 {
            self.member.metrics.republished.add(again as u64);
            out.work.notify_one();
        }
    }

    fn on_failure(&mut self, lane: u32, error: Error) {
        let longest = self.member.settings.verify_interval;
        let state = &mut self.lanes[lane as usize];
        let jitter = 0.5 + fastrand::f64();
        state.pace.failed(Instant::now(), longest, jitter);
        let member = &self.member;
        member.metrics.verifications[Verification::Failed].inc();
        if member.lanes[lane as usize].set_unverified(Some(error.clone())) {
            tracing::debug!(lane, %error, "the lane cannot be verified");
        }
        if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Lanes) {
            member.started.send_if_modified(|started| match started {
                Some(_) => false,
                None => started.replace(Err(error.clone())).is_none(),
            });
        }
        if error.kind() == ErrorKind::Lanes {
            self.disagree(lane, error);
        }
    }

    /// A lane belongs to a fleet with another number of lanes. Where the keys of this instance are
    /// invalidated is then unknown, so nothing is verified or published on any lane.
    fn disagree(&mut self, lane: u32, error: Error) {
        self.lanes[lane as usize].disagrees = true;
        if without(Mechanism::AgreedLanes) {
            return;
        }
        for state in &mut self.lanes {
            state.proven = None;
        }
        if self.member.agreement.refuse(error) {
            self.member.fence_all(Fence::Lanes);
        }
    }

    /// A lane has answered, so it has the number of lanes that this instance has.
    fn agree(&mut self, lane: u32, round: Round) {
        self.lanes[lane as usize].disagrees = false;
        if lane == 0 {
            self.agreed = Some(round);
        }
        if self.agreed.is_none() || self.disagreed() {
            return;
        }
        if self.member.agreement.agree() {
            self.member.fence_all(Fence::Lanes);
        }
        for lane in 0..self.member.lane_count() {
            if let Some(at) = self.lanes[lane as usize].proven {
                self.verify(lane, at);
            }
        }
    }

    fn disagreed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.disagrees)
    }

    fn on_journal(&mut self, lane: u32, (repair, span): (Repair, Span), journal: Journal) {
        let member = self.member.clone();
        let state = &mut self.lanes[lane as usize];
        let epoch = journal.head.epoch;
        let repaired = state
            .follower
            .on_journal(repair.number, journal, self.round);
        self.announce_applied(lane);
        match repaired {
            Repaired::Obsolete => return,
            Repaired::Events { events, done } => {
                let missed = self.apply_journal(lane, epoch, &events);
                self.announce_reached(lane);
                let state = &mut self.lanes[lane as usize];
                if let Some(rest) = (!done)
                    .then(|| state.follower.repair_rest(repair))
                    .flatten()
                {
                    ask_journal(&mut self.replies, &self.member, lane, rest);
                    return;
                }
                // With a key the journal is read after every event: it repairs what was missed only.
                if missed > 0 || !member.seal.is_keyed() {
                    member.metrics.repairs.note(RepairOutcome::Repaired, &span);
                }
                self.verify_if_proven(lane);
            }
            Repaired::Fence => {
                self.lanes[lane as usize].passed.clear();
                member.fence(lane, Fence::Gap);
                self.announce_reached(lane);
                member.metrics.repairs.note(RepairOutcome::Fenced, &span);
                self.verify_soon(lane);
            }
            Repaired::OtherEpoch => {
                member.metrics.repairs.note(RepairOutcome::Failed, &span);
                self.verify_soon(lane);
            }
        }
        self.unstash(lane);
    }

    pub(super) fn verify_if_proven(&mut self, lane: u32) {
        self.announce_reached(lane);
        let state = &mut self.lanes[lane as usize];
        if let Some(at) = state.follower.proven() {
            if !state.follower.behind() {
                state.overdue = None;
            }
            self.verify(lane, at);
        }
    }

    /// Everything published on the lane before `at` has been applied. It counts once lane 0 has
    /// confirmed the number of lanes, in the round in which this lane's life was adopted or later:
    /// 1: a fleet with another number of lanes sets lane 0 up; 2: this instance finds its own lane
    /// empty and verifies it; 3: the fleet publishes what concerns the lane's keys on lane 0.
    fn verify(&mut self, lane: u32, at: Nanos) {
        let confirmed = self
            .agreed
            .is_some_and(|round| round >= self.lanes[lane as usize].adopted);
        if (confirmed && !self.disagreed()) || without(Mechanism::AgreedLanes) {
            let state = &mut self.lanes[lane as usize];
            state.proven = None;
            let marked = state.marks.proven(state.follower.applied());
            // Before the lane's own, which wakes the reads that wait.
            self.member.sources.verify(lane, marked);
            self.member.stamps.lane_at(lane).verify(at);
        } else {
            self.lanes[lane as usize].proven = Some(at);
        }
    }
}

impl From<SubscriptionRepair> for SubscriptionMethod {
    fn from(how: SubscriptionRepair) -> Self {
        match how {
            SubscriptionRepair::Resubscribe => Self::Resubscribe,
            SubscriptionRepair::Reconnect => Self::Reconnect,
        }
    }
}
