//! The steps of the instance: loads, own writes, verifications, and what it hears.

use super::Relaying;
use super::bounds::RelaySeen;
use super::state::{Asked, Instance, OF_KEY, State, Version};
use crate::marks::Sent;
use crate::mutants::{Mechanism, without};
use crate::time::Nanos;

/// A time is the number of commits that loads saw then; in so many low bits, which verification was sent then.
const TIE: u32 = 8;

/// How many commits there were at that time.
pub(super) fn commits_at(time: Nanos) -> Version {
    (time >> TIE) as Version
}

impl Instance {
    fn drop_key(&mut self, model: &Relaying) {
        if self.load.take().is_some() {
            model.note(RelaySeen::Discarded);
        }
        self.entry = None;
        if model.bounds.replica {
            self.clock += 1;
        }
    }

    /// Looks what the marks prove.
    fn prove(&mut self, model: &Relaying) {
        for (_, proof) in self.marks.proven(Some(self.applied)) {
            let at = proof.at;
            if model.bounds.replica {
                self.proofs.push(proof);
            }
            self.proven = self.proven.max(at);
            model.note(RelaySeen::Proof);
            if commits_at(at) > 0 && self.entry.is_some() {
                model.note(RelaySeen::ProofOfEntry);
            }
            if commits_at(at) > 0 && self.load.is_some() {
                model.note(RelaySeen::ProofOfLoad);
            }
        }
    }
}

/// Each says whether it could be taken.
impl Relaying {
    /// The moment at which a load reads the source.
    pub(super) fn load_reads(&self, state: &mut State) -> Option<()> {
        if state.instance.load.is_some() {
            return None;
        }
        state.left.loads = state.left.loads.checked_sub(1)?;
        state.instance.load = Some(state.seen);
        state.instance.of_replica = false;
        Some(())
    }

    /// A load reads a replica that has replayed so many commits.
    pub(super) fn replica_reads(&self, state: &mut State, place: Version) -> Option<()> {
        self.load_reads(state)?;
        state.instance.load = Some(place);
        state.instance.of_replica = true;
        Some(())
    }

    pub(super) fn load_ends(&self, state: &mut State) -> Option<()> {
        let instance = &mut state.instance;
        let read = instance.load.take()?;
        if instance.of_replica {
            instance.of_replica = false;
            return self.keep_of_replica(state, read);
        }
        instance.entry = Some(read);
        Some(())
    }

    /// Kept as though it had been read when the latest verification was sent whose mark has no later place.
    fn keep_of_replica(&self, state: &mut State, read: Version) -> Option<()> {
        let instance = &mut state.instance;
        let reached = instance.proofs.iter();
        let reached = reached.filter(|proof| proof.place <= u64::from(read));
        let Some(proof) = reached.max_by_key(|proof| proof.at) else {
            self.note(RelaySeen::UnknownOfReplica);
            return Some(());
        };
        if proof.token < instance.clock && !without(Mechanism::MomentOfReplicas) {
            self.note(RelaySeen::OvertakenOfReplica);
            return Some(());
        }
        if read < state.seen {
            self.note(RelaySeen::KeptOfReplica);
        }
        instance.entry = Some(read);
        Some(())
    }

    pub(super) fn own_commit(&self, state: &mut State) -> Option<()> {
        if state.seen < state.logged {
            return None;
        }
        state.left.own = state.left.own.checked_sub(1)?;
        state.logged += 1;
        if !self.bounds.late_sight {
            state.seen = state.logged;
        }
        state.instance.committing += 1;
        Some(())
    }

    /// The commit returns: the entry is dropped at once, and the event is to be published.
    pub(super) fn own_commit_returns(&self, state: &mut State) -> Option<()> {
        if state.seen < state.logged {
            return None;
        }
        let instance = &mut state.instance;
        instance.committing = instance.committing.checked_sub(1)?;
        instance.owes += 1;
        instance.drop_key(self);
        Some(())
    }

    pub(super) fn own_publish(&self, state: &mut State, demoted: bool) -> Option<()> {
        state.instance.owes = state.instance.owes.checked_sub(1)?;
        state.lanes[OF_KEY].publish(demoted, true)?;
        Some(())
    }

    pub(super) fn verification_is_sent(&self, state: &mut State, demoted: bool) -> Option<()> {
        let left = &mut state.left.verifications;
        *left = left.checked_sub(1)?;
        let number = Nanos::from(self.bounds.verifications - *left);
        state.instance.asked.push(Asked {
            sent: Sent {
                at: Nanos::from(state.seen) << TIE | number,
                token: state.instance.clock,
            },
            answer: None,
        });
        match self.bounds.slow {
            true => Some(()),
            false => {
                let which = state.instance.asked.len() - 1;
                self.verification_is_served(state, which, demoted)
            }
        }
    }

    pub(super) fn verification_is_served(
        &self,
        state: &mut State,
        which: usize,
        demoted: bool,
    ) -> Option<()> {
        let asked = state.instance.asked.get_mut(which)?;
        if asked.answer.is_some() {
            return None;
        }
        asked.answer = Some(state.lanes[OF_KEY].verify(demoted)?);
        Some(())
    }

    /// An answer arrives, if only after the server that gave it was replaced.
    pub(super) fn verification_replies(&self, state: &mut State, which: usize) -> Option<()> {
        let instance = &mut state.instance;
        instance.asked.get(which)?.answer.as_ref()?;
        let Asked { sent, answer } = instance.asked.remove(which);
        let answer = answer?;
        if answer.demoted && !without(Mechanism::StillThePrimary) {
            self.note(RelaySeen::DemotedRefused);
            return Some(());
        }
        if instance.left.contains(&answer.head.epoch) {
            return Some(());
        }
        if answer.head.epoch != instance.applied.epoch {
            self.note(RelaySeen::Adopted);
            if instance.proven > 0 {
                self.note(RelaySeen::AdoptedAfterProof);
            }
            instance.left.push(instance.applied.epoch);
            instance.applied = answer.head;
            instance.drop_key(self);
        }
        instance.marks.learn(sent, answer.head, &answer.counted);
        instance.prove(self);
        Some(())
    }

    /// The next event arrives, by the subscription or from the journal.
    pub(super) fn hear(&self, state: &mut State, number: usize) -> Option<()> {
        let message = *state.lanes[OF_KEY].log.get(number)?;
        let lane = &state.lanes[OF_KEY];
        let instance = &mut state.instance;
        let (applied, position) = (instance.applied, message.position);
        if position.epoch != applied.epoch || position.sequence != applied.sequence + 1 {
            return None;
        }
        // In a life that no verification has found, the journal's head is of no epoch.
        let journals = [Some(&lane.primary), lane.demoted.as_ref()];
        let in_journal = journals.into_iter().flatten().any(|server| {
            server.life == message.life && server.verified && server.head.epoch == applied.epoch
        });
        if message.life != instance.life && !in_journal {
            return None;
        }
        instance.applied = position;
        if message.own {
            self.note(RelaySeen::OwnEcho);
        } else {
            instance.drop_key(self);
        }
        instance.prove(self);
        Some(())
    }

    /// The subscription leads to the new primary. What was asked before no longer counts.
    pub(super) fn reconnect(&self, state: &mut State) -> Option<()> {
        let life = state.lanes[OF_KEY].primary.life;
        let instance = &mut state.instance;
        if instance.life == life {
            return None;
        }
        instance.life = life;
        instance.asked.clear();
        instance.marks.disconnected();
        Some(())
    }
}
