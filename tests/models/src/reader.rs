//! What an instance reads: its store, and the link around the crate's own follower.
//!
//! A message that arrives during a repair would be stashed and heard afterwards; here it is heard
//! afterwards, or never, because any message may arrive at any time. The repair of a subscription is
//! left out for the same reason.

mod repair;
mod store;

use crate::bus::{Journal, Position};
use crate::follower::{Follower, Heard, Learned, Repair, Round};
use crate::model::Model;
use crate::mutants::{Mechanism, without};
use crate::state::{READER, Seen, State, Version, What, decode, id_of};
pub(crate) use store::Store;

/// Rounds that are distinguished in one doubt. Only a message of another epoch between each sending
/// and its reply, again and again, needs more, and ends where it began.
const MAX_ROUNDS: Round = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) store: Store,
    follower: Follower,
    /// The round that was sent last. A new number is taken only where the follower holds one to
    /// compare it with, so that equal states are equal.
    round: Round,
    /// Another epoch was heard of.
    in_doubt: bool,
    verification: Option<Verification>,
    /// Reads of the journal under way. More than one only after an adoption: the older one's reply
    /// is obsolete, and must be taken for that.
    repairs: Vec<(Repair, Option<Journal>)>,
    /// The journal has begun another epoch, and says nothing more until that is adopted. Asking it
    /// again and again would only count repairs.
    superseded: bool,
    /// The last verification that events are missing for; the same again would say nothing new.
    behind: Option<(Version, Position)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Verification {
    /// The version that was due when it was sent.
    sent_at: Version,
    /// The head it found, and the life of the server it came from.
    reply: Option<(Position, u64)>,
}

impl Reader {
    /// Reads of the journal under way.
    pub(crate) fn reads(&self) -> usize {
        self.repairs.len()
    }

    /// Returns whether that read of the journal has been served.
    pub(crate) fn read_is_back(&self, number: usize) -> bool {
        self.repairs[number].1.is_some()
    }

    /// Whether the verification under way has been served.
    pub(crate) fn verification_is_back(&self) -> Option<bool> {
        let verification = self.verification.as_ref()?;
        Some(verification.reply.is_some())
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.behind.is_some() && !self.superseded
    }

    pub(crate) fn repairing(&self) -> bool {
        self.follower.repairing()
    }
}

/// The reader's steps; each says whether it could be taken.
impl Model {
    pub(crate) fn verification_is_sent(&self, state: &mut State) -> bool {
        let reader = &mut state.reader;
        if reader.verification.is_some() {
            return false;
        }
        if reader.in_doubt {
            if reader.round >= MAX_ROUNDS {
                return false;
            }
            reader.round += 1;
        } else {
            reader.round = 0;
        }
        reader.verification = Some(Verification {
            sent_at: state.due,
            reply: None,
        });
        state.writers[READER].mark_sent();
        true
    }

    /// A server answers; `demoted`: the old primary.
    pub(crate) fn verification_is_served(&self, state: &mut State, demoted: bool) -> bool {
        match &state.reader.verification {
            Some(Verification { reply: None, .. }) => {}
            _ => return false,
        }
        let server = match &mut state.demoted {
            Some(old) if demoted => old,
            None if demoted => return false,
            _ => &mut state.server,
        };
        let (verified, published) = server.verify(id_of(READER));
        let reply = Some((verified.head, server.run));
        if !demoted {
            self.recovered(published, state);
            let now = state.server.now;
            state.writers[READER].heard_at = now;
            if !verified.known {
                self.register_again(state, READER);
            }
        }
        if let Some(verification) = &mut state.reader.verification {
            verification.reply = reply;
        }
        true
    }

    pub(crate) fn verification_is_lost(&self, state: &mut State) -> bool {
        state.reader.verification.take().is_some()
    }

    /// As `Link::on_verified`.
    pub(crate) fn verification_replies(&self, state: &mut State) -> bool {
        let Some(Verification {
            sent_at,
            reply: Some((head, run)),
        }) = state.reader.verification
        else {
            return false;
        };
        state.reader.verification = None;
        if self.bounds.split && run != state.server.run && !without(Mechanism::StillThePrimary) {
            self.witness.note(Seen::DemotedRefused);
            return true;
        }
        let reader = &mut state.reader;
        if reader.behind == Some((sent_at, head)) && !reader.in_doubt {
            return true;
        }
        match reader
            .follower
            .learn(reader.round, u64::from(sent_at), head)
        {
            Learned::Outdated => self.witness.note(Seen::Outdated),
            Learned::Adopted { .. } => {
                self.witness.note(Seen::Adopted);
                reader.in_doubt = false;
                reader.round = 0;
                reader.behind = None;
                reader.superseded = false;
                if !without(Mechanism::FenceAfterAdoption) {
                    reader.store.fence();
                }
                reader.store.verified = reader.store.verified.max(sent_at);
            }
            Learned::Current => self.verified(reader),
            Learned::Behind => reader.behind = Some((sent_at, head)),
        }
        state.writers[READER].confirm(head, &self.bounds, &self.witness);
        true
    }

    /// As the verification does in the crate.
    fn verified(&self, reader: &mut Reader) {
        if let Some(at) = reader.follower.proven() {
            let at = Version::try_from(at).expect("it was a version");
            reader.store.verified = reader.store.verified.max(at);
            if let Some(entry) = &reader.store.entry {
                self.witness.note(Seen::Hit);
                if entry.version > 0 && reader.store.verified > 0 {
                    self.witness.note(Seen::NewestHit);
                }
            }
            if !reader.follower.behind() {
                reader.behind = None;
            }
        }
    }

    /// A message arrives, for the first time or again. As `Link::hear`.
    pub(crate) fn hear(&self, state: &mut State, number: usize) -> bool {
        let message = state.log[number].clone();
        let due = state.due;
        let reader = &mut state.reader;
        if reader.follower.repairing() {
            return false;
        }
        match reader.follower.hear(message.position, reader.round) {
            Heard::Next => {
                self.apply(reader, &message.payload, message.covers);
                self.verified(reader);
                if without(Mechanism::Verification) {
                    reader.store.verified = due;
                }
            }
            Heard::Gap if reader.superseded => {}
            Heard::Gap => {
                let repair = reader.follower.repair(message.position.sequence);
                reader.repairs.extend(repair.map(|repair| (repair, None)));
            }
            Heard::OtherEpoch => {
                self.witness.note(Seen::OtherEpoch);
                reader.in_doubt = true;
            }
            Heard::Duplicate => self.witness.note(Seen::Duplicate),
            Heard::NotAdopted => {}
        }
        true
    }

    /// A stranger's message with the next sequence arrives. As `Link::hear` of what does not decode.
    pub(crate) fn hear_stranger(&self, state: &mut State) -> bool {
        let reader = &mut state.reader;
        if state.left.strangers == 0 || reader.follower.repairing() {
            return false;
        }
        state.left.strangers -= 1;
        let mut position = state.server.head();
        position.sequence += 1;
        match reader.follower.hear_nonsense(position, reader.round) {
            Heard::Gap if reader.superseded => {}
            Heard::Gap => {
                let repair = reader.follower.repair(position.sequence);
                reader.repairs.extend(repair.map(|repair| (repair, None)));
            }
            Heard::OtherEpoch => reader.in_doubt = true,
            Heard::Next | Heard::Duplicate | Heard::NotAdopted => {}
        }
        true
    }

    /// As `Link::apply`.
    fn apply(&self, reader: &mut Reader, payload: &bytes::Bytes, covers: Version) {
        let (own, what) = decode(payload);
        if own {
            self.witness.note(Seen::OwnEcho);
            return;
        }
        self.witness.note(Seen::Applied);
        match what {
            What::Key => reader.store.invalidate(covers),
            What::Other => {}
            What::All => {
                reader.store.fence();
                reader.store.applied = reader.store.applied.max(covers);
            }
        }
    }

    /// The process starts again.
    pub(crate) fn reader_restarts(&self, state: &mut State) -> bool {
        if state.left.restarts == 0 {
            return false;
        }
        state.left.restarts -= 1;
        state.reader = Reader::default();
        true
    }
}
