//! Repairs from the journal.

use crate::follower::Repaired;
use crate::model::Model;
use crate::mutants::{Mechanism, without};
use crate::state::{Seen, State};

/// The steps of a repair; each says whether it could be taken.
impl Model {
    /// Events that a verification knows of have not arrived. As `Link::on_timer`, which also notes
    /// that the subscription was silent.
    pub(crate) fn asks_for_silence(&self, state: &mut State) -> bool {
        let reader = &mut state.reader;
        if reader.follower.repairing() {
            return false;
        }
        let Some((_, head)) = reader.behind else {
            return false;
        };
        let repair = reader.follower.repair(head.sequence);
        reader.repairs.extend(repair.map(|repair| (repair, None)));
        repair.is_some()
    }

    /// A server reads the journal; `demoted`: the old primary.
    pub(crate) fn journal_is_served(
        &self,
        state: &mut State,
        number: usize,
        demoted: bool,
    ) -> bool {
        let server = match &state.demoted {
            Some(old) if demoted => old,
            None if demoted => return false,
            _ => &state.server,
        };
        match &mut state.reader.repairs[number] {
            (repair, journal @ None) => *journal = Some(server.journal(repair.after)),
            _ => return false,
        }
        true
    }

    pub(crate) fn journal_is_lost(&self, state: &mut State, number: usize) -> bool {
        if state.left.losses == 0 {
            return false;
        }
        state.left.losses -= 1;
        let (repair, _) = state.reader.repairs.remove(number);
        state.reader.follower.abandon_repair(repair.number);
        true
    }

    /// As `Link::on_journal`.
    pub(crate) fn journal_replies(&self, state: &mut State, number: usize) -> bool {
        if state.reader.repairs[number].1.is_none() {
            return false;
        }
        let (repair, Some(journal)) = state.reader.repairs.remove(number) else {
            return false;
        };
        let epoch = journal.head.epoch;
        let round = state.reader.round;
        match state
            .reader
            .follower
            .on_journal(repair.number, journal, round)
        {
            Repaired::Obsolete => self.witness.note(Seen::RepairObsolete),
            Repaired::Events { events, done } => {
                for (sequence, payload) in events {
                    let covers = state.covered_by(epoch, sequence, &payload);
                    self.apply(&mut state.reader, &payload, covers);
                }
                let reader = &mut state.reader;
                if done {
                    self.witness.note(Seen::Repaired);
                    self.verified(reader);
                } else {
                    self.witness.note(Seen::RepairInPages);
                    let rest = reader.follower.repair_rest(repair);
                    reader.repairs.extend(rest.map(|rest| (rest, None)));
                }
            }
            Repaired::Fence => {
                self.witness.note(Seen::RepairFenced);
                state.reader.behind = None;
                state.reader.superseded = false;
                state.reader.in_doubt = false;
                if !without(Mechanism::FenceAfterAdoption) {
                    state.reader.store.fence();
                }
            }
            Repaired::OtherEpoch => {
                state.reader.in_doubt = true;
                state.reader.superseded = true;
            }
        }
        true
    }
}
