//! Which steps may be possible in a state.

use super::lane::Lane;
use super::state::{OF_KEY, State};
use super::{Action, Relaying};

impl Relaying {
    pub(super) fn instance_actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Commit, CommitIsSeen, LoadReads, LoadEnds]);
        if self.bounds.replica {
            actions.extend((0..=state.seen).map(ReplicaReads));
        }
        actions.extend([OwnCommit, OwnCommitReturns, Reconnect]);
        for demoted in servers(&state.lanes[OF_KEY]) {
            actions.push(OwnPublish { demoted });
            if !demoted || !self.bounds.slow {
                actions.push(VerificationIsSent { demoted });
            }
            let asked = 0..state.instance.asked.len();
            actions.extend(asked.map(|which| VerificationIsServed { which, demoted }));
        }
        actions.extend((0..state.instance.asked.len()).map(VerificationReplies));
        actions.extend((0..state.lanes[OF_KEY].log.len()).map(Hear));
    }

    pub(super) fn relay_actions(&self, state: &State, relay: usize, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Open(relay), Begin(relay), End(relay), Die(relay)]);
        let losses = if state.left.losses > 0 { 2 } else { 1 };
        for lost in [false, true].into_iter().take(losses) {
            for demoted in servers(&state.lanes[OF_KEY]) {
                actions.push(Publish {
                    relay,
                    demoted,
                    lost,
                });
            }
            for (lane, of) in state.lanes.iter().enumerate() {
                let renew = |demoted| Renew {
                    relay,
                    lane,
                    demoted,
                    lost,
                };
                actions.extend(servers(of).map(renew));
            }
        }
        for (lane, of) in state.lanes.iter().enumerate() {
            for demoted in servers(of) {
                actions.push(Ask {
                    relay,
                    lane,
                    demoted,
                });
                actions.push(Mark {
                    relay,
                    lane,
                    demoted,
                });
            }
        }
    }

    pub(super) fn lane_actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        for (lane, of) in state.lanes.iter().enumerate() {
            actions.extend([Replicate(lane), FailOver(lane), Flush(lane)]);
            actions.extend(servers(of).map(|demoted| AnotherVerifies { lane, demoted }));
        }
    }
}

/// The primary, and the old one that still answers.
fn servers(lane: &Lane) -> impl Iterator<Item = bool> {
    let demoted = if lane.demoted.is_some() { 2 } else { 1 };
    [false, true].into_iter().take(demoted)
}
