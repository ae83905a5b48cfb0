//! What a verification and a page of the journal lead to.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::{GRACE, Link};
use crate::bus::{Journal, Mend, Position, Verified};
use crate::core::Agreement;
use crate::follower::{Learned, Mended, Repair, Round};
use crate::metrics::{Fence, Gap, Mended as MendedHow, Repair as RepairOutcome, Verification};
use crate::time::Nanos;
use crate::without::{Mechanism, without};
use crate::writes::reregister;
use crate::{Error, ErrorKind};

/// The pause after a repair that failed: a journal that is refused at once would else be asked for by every
/// message.
const REPAIR_PAUSE: Duration = Duration::from_millis(50);

pub(super) enum Reply {
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

/// A call of the bus: one that panics has failed, and is answered for like any other.
pub(super) async fn caught<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut call = pin!(call);
    let polled = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            let panicked = Error::new(ErrorKind::Bus, "a call of the bus has panicked");
            Poll::Ready(Err(panicked))
        })
    });
    polled.await
}

impl Link {
    pub(super) fn read_journal(&mut self, lane: u32, repair: Repair) {
        let core = self.core.clone();
        self.replies.spawn(async move {
            let result = caught(core.bus.journal(lane, repair.after)).await;
            Reply::Journal {
                lane,
                repair,
                result,
            }
        });
    }

    pub(super) fn on_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Verified {
                lane,
                round,
                sent_at,
                result: Ok(verified),
            } => {
                self.lanes[lane as usize].pace.succeeded();
                self.on_verified(lane, round, sent_at, verified);
            }
            Reply::Verified {
                lane,
                result: Err(error),
                ..
            } => self.on_failure(lane, error),
            Reply::Journal {
                lane,
                repair,
                result: Ok(journal),
            } => self.on_journal(lane, repair, journal),
            Reply::Journal {
                lane,
                repair,
                result: Err(_),
            } => {
                self.core.metrics.repairs[RepairOutcome::Failed].inc();
                let state = &mut self.lanes[lane as usize];
                state.follower.abandon_repair(repair.number);
                state.repair_after = Some(Instant::now() + REPAIR_PAUSE);
                self.unstash(lane);
            }
        }
    }

    fn on_verified(&mut self, lane: u32, round: Round, sent_at: Nanos, verified: Verified) {
        let core = self.core.clone();
        core.metrics.verifications[Verification::Ok].inc();
        core.metrics
            .recovered_writes
            .add(u64::from(verified.recovered));
        self.agree(lane, round);
        let state = &mut self.lanes[lane as usize];
        let forgotten = !verified.known && state.registered;
        state.registered = true;
        if let Some(how) = state.follower.deaf() {
            core.metrics.mends[MendedHow::from(how)].inc();
            core.bus.mend(how);
        }
        let interrupted = std::mem::take(&mut state.interrupted);
        if state.is_back(verified.head.epoch) {
            state.interrupted |= interrupted;
            self.core.metrics.gaps[Gap::Epoch].inc();
            self.verify_soon(lane);
            return;
        }
        if interrupted {
            state.follower.learn_interrupted(verified.head);
        }
        let before = state.follower.applied();
        let learned = state.follower.learn(round, sent_at, verified.head);
        let adopted = matches!(learned, Learned::Adopted { .. });
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
        // A promoted replica may lack the latest announcements and still know their writer.
        if forgotten || (adopted && !without(Mechanism::AnnouncementAfterAdoption)) {
            reregister(&core, lane);
        }
        self.republish(lane, verified.head, sent_at);
        self.note_success(lane);
    }

    /// The lane has another life: its head was adopted, and what was held before is dropped *now*.
    fn adopt(&mut self, lane: u32, round: Round, first: bool, sent_at: Nanos) {
        self.announce_applied(lane);
        if !without(Mechanism::FenceAfterAdoption) {
            let cause = if first { Fence::Adopted } else { Fence::Epoch };
            self.core.fence(lane, cause);
        }
        let state = &mut self.lanes[lane as usize];
        state.passed.clear();
        state.taken = false;
        state.overdue = None;
        state.adopted = round;
        self.vouch(lane, sent_at);
        self.unstash(lane);
    }

    fn note_success(&self, lane: u32) {
        let core = &self.core;
        if core.lanes[lane as usize].failing.swap(false, Relaxed) {
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
        let longest = self.core.settings.verify_interval;
        let state = &mut self.lanes[lane as usize];
        let jitter = 0.5 + fastrand::f64();
        state.pace.failed(Instant::now(), longest, jitter);
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
        if self.core.refuse(error) {
            self.core.fence_all(Fence::Lanes);
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
        let refused = matches!(
            self.core.agreement.send_replace(Agreement::Agreed),
            Agreement::Refused(_)
        );
        if refused {
            self.core.fence_all(Fence::Lanes);
        }
        for lane in 0..self.core.lane_count() {
            if let Some(at) = self.lanes[lane as usize].proven {
                self.vouch(lane, at);
            }
        }
    }

    fn disagreed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.disagrees)
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
                self.lanes[lane as usize].passed.clear();
                core.fence(lane, Fence::Gap);
                core.metrics.repairs[RepairOutcome::Fenced].inc();
                self.verify_soon(lane);
            }
            Mended::OtherEpoch => {
                core.metrics.repairs[RepairOutcome::Failed].inc();
                self.verify_soon(lane);
            }
        }
        self.unstash(lane);
    }

    pub(super) fn vouch_if_proven(&mut self, lane: u32) {
        let state = &mut self.lanes[lane as usize];
        if let Some(at) = state.follower.vouched() {
            if !state.follower.behind() {
                state.overdue = None;
            }
            self.vouch(lane, at);
        }
    }

    /// Everything published on the lane before `at` has been applied. It counts once lane 0 has
    /// confirmed the number of lanes, in the round in which this lane's life was adopted or later:
    /// 1: a fleet with another number of lanes sets lane 0 up; 2: this instance finds its own lane
    /// empty and verifies it; 3: the fleet publishes what concerns the lane's keys on lane 0.
    fn vouch(&mut self, lane: u32, at: Nanos) {
        let confirmed = self
            .agreed
            .is_some_and(|round| round >= self.lanes[lane as usize].adopted);
        if (confirmed && !self.disagreed()) || without(Mechanism::AgreedLanes) {
            self.lanes[lane as usize].proven = None;
            self.core.stamps.lane_at(lane).verify(at);
        } else {
            self.lanes[lane as usize].proven = Some(at);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Its round ends like any other that failed, and the next one is sent.
    #[tokio::test]
    async fn a_call_of_the_bus_that_panics_is_a_call_that_failed() {
        let panics = async {
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("a bug"));
        };
        let error = caught::<()>(panics).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bus);
        assert_eq!(caught(async { Ok(7) }).await.unwrap(), 7);
    }
}
