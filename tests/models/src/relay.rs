//! What a relay's marks prove: a source, its relays, the servers of one or two lanes, and an instance.
//!
//! The crate's own code, compiled in from `src`, is what an instance concludes from marks and what a server keeps
//! of them. The relay's rounds and its publisher, which are tasks there, are restated in `rounds`, the sequence and
//! the epochs of a lane in `lane`. The key that is cached is one, and is of the first lane.
//!
//! Each command of a relay may reach the primary or an old one that still answers, and so may a verification.
//! An answer may arrive at any later time, events in the order of their places. A replica has what the primary
//! had at some moment; after its promotion the epoch goes on until a verification begins another one.
//!
//! There is no wall time. A time is the number of commits that loads saw then: what is held must not be
//! older than the time up to which the source is proven. Leases are left out: two relays run at once.
//!
//! A load may read a replica, which shows the source as it was at some place of its log: after so many commits. What
//! it read is kept as though it had been read when the last verification was sent whose mark has no later place.
//!
//! Not expressed: a counter that goes back within its life, and commands that take effect after they were given
//! up. Marks of another epoch are refused three times, by a server that is to set one or answers with it and by the
//! instance: the mutant takes the first and the last out together, because the last alone is never needed here.

mod actions;
mod bounds;
mod check;
mod instance;
mod lane;
mod rounds;
mod state;

pub use bounds::{RelayBounds, RelaySeen};
pub use check::{RelayReport, check_relay};

use crate::model::Witness;
use crate::mutants::Mechanism;
use lane::Lane;
use state::State;

/// What the checker explores.
#[derive(Clone, Debug)]
pub(crate) struct Relaying {
    bounds: RelayBounds,
    without: Option<Mechanism>,
    witness: Witness,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what happens")]
pub enum Action {
    Commit,
    CommitIsSeen,
    LoadReads,
    ReplicaReads(u8),
    LoadEnds,
    OwnCommit,
    OwnCommitReturns,
    OwnPublish {
        demoted: bool,
    },
    VerificationIsSent {
        demoted: bool,
    },
    VerificationIsServed {
        which: usize,
        demoted: bool,
    },
    VerificationReplies(usize),
    Hear(usize),
    Reconnect,
    AnotherVerifies {
        lane: usize,
        demoted: bool,
    },
    Replicate(usize),
    FailOver(usize),
    Flush(usize),
    Open(usize),
    Renew {
        relay: usize,
        lane: usize,
        demoted: bool,
        lost: bool,
    },
    Publish {
        relay: usize,
        demoted: bool,
        lost: bool,
    },
    Begin(usize),
    Ask {
        relay: usize,
        lane: usize,
        demoted: bool,
    },
    End(usize),
    Mark {
        relay: usize,
        lane: usize,
        demoted: bool,
    },
    Die(usize),
}

impl Relaying {
    fn note(&self, seen: RelaySeen) {
        self.witness.set(seen as u32);
    }

    /// Takes a step, if it can be taken.
    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        use Action::*;
        match action {
            Commit => self.commit(state),
            CommitIsSeen => self.commit_is_seen(state),
            LoadReads => self.load_reads(state),
            ReplicaReads(place) => self.replica_reads(state, place),
            LoadEnds => self.load_ends(state),
            OwnCommit => self.own_commit(state),
            OwnCommitReturns => self.own_commit_returns(state),
            OwnPublish { demoted } => self.own_publish(state, demoted),
            VerificationIsSent { demoted } => self.verification_is_sent(state, demoted),
            VerificationIsServed { which, demoted } => {
                self.verification_is_served(state, which, demoted)
            }
            VerificationReplies(which) => self.verification_replies(state, which),
            Hear(number) => self.hear(state, number),
            Reconnect => self.reconnect(state),
            Open(relay) => self.open(state, relay),
            Renew {
                relay,
                lane,
                demoted,
                lost,
            } => self.renew(state, relay, lane, demoted, lost),
            Publish {
                relay,
                demoted,
                lost,
            } => self.publish(state, relay, demoted, lost),
            Begin(relay) => self.begin(state, relay),
            Ask {
                relay,
                lane,
                demoted,
            } => self.ask(state, relay, lane, demoted),
            End(relay) => self.end(state, relay),
            Mark {
                relay,
                lane,
                demoted,
            } => self.mark(state, relay, lane, demoted),
            Die(relay) => self.die(state, relay),
            AnotherVerifies { .. } | Replicate(_) | FailOver(_) | Flush(_) => {
                self.strike(state, action)
            }
        }
    }

    /// What happens to the servers.
    fn strike(&self, state: &mut State, action: Action) -> Option<()> {
        let left = &mut state.left;
        match action {
            Action::AnotherVerifies { lane, demoted } => {
                left.beats = left.beats.checked_sub(1)?;
                state.lanes[lane].verify(demoted)?;
            }
            Action::Replicate(lane) => {
                let Lane {
                    primary, replica, ..
                } = &mut state.lanes[lane];
                *replica.as_mut()? = primary.clone();
            }
            Action::FailOver(lane) => {
                left.failovers = left.failovers.checked_sub(1)?;
                let lane = &mut state.lanes[lane];
                let replica = lane.replica.as_ref();
                let mut promoted = replica.unwrap_or(&lane.primary).clone();
                promoted.life = lane.primary.life + 1;
                promoted.verified = false;
                let old = std::mem::replace(&mut lane.primary, promoted);
                lane.demoted = self.bounds.split.then_some(old);
            }
            Action::Flush(lane) => {
                left.flushes = left.flushes.checked_sub(1)?;
                state.lanes[lane].primary.flush();
            }
            _ => return None,
        }
        Some(())
    }

    /// One commit follows another of the same key once that is seen.
    fn commit(&self, state: &mut State) -> Option<()> {
        if state.seen < state.logged {
            return None;
        }
        state.left.commits = state.left.commits.checked_sub(1)?;
        state.logged += 1;
        if !self.bounds.late_sight {
            state.seen = state.logged;
        }
        Some(())
    }

    fn commit_is_seen(&self, state: &mut State) -> Option<()> {
        if state.seen == state.logged {
            return None;
        }
        state.seen = state.logged;
        self.note(RelaySeen::LateSight);
        Some(())
    }
}
