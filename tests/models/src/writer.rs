//! What an instance writes: the open write and the outbox.

use crate::bus::{IntentId, Position};
use crate::model::{Model, Witness};
use crate::mutants::{Mechanism, without};
use crate::state::{
    Bounds, Committing, MEMBER_TIMEOUT, READER, Seen, State, Tick, Version, WRITE_TIMEOUT, What,
    encode, id_of, intent_of,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) alive: bool,
    /// Writes of the cached key to come.
    pub(crate) left: u8,
    pub(crate) write: Write,
    pub(crate) queue: Vec<Queued>,
    /// Published and not yet confirmed by a later verification.
    pub(crate) sent: Vec<Sent>,
    /// When the server last heard of it.
    pub(crate) heard_at: Tick,
}

/// A write between its announcement and its publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    None,
    /// The intent is recorded since `at`.
    Announced {
        at: Tick,
        deadline: Tick,
    },
    /// The commit was sent to the database.
    Asked {
        deadline: Tick,
    },
    /// The commit returned Ok; the local drop and the event come next.
    Committed {
        intent: Option<IntentId>,
    },
    /// The commit was dropped, its outcome is unknown.
    Abandoned {
        deadline: Tick,
    },
    /// Without [`Mechanism::PublishAfterCommit`]: published, and yet to be committed.
    PublishedFirst,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Queued {
    pub(crate) what: What,
    /// The newest version that it drops the predecessors of.
    pub(crate) covers: Version,
    pub(crate) clears: Vec<IntentId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    position: Position,
    what: What,
    covers: Version,
    /// Acknowledged before the verification under way was sent.
    before: bool,
}

impl Writer {
    pub(crate) fn new(writes: u8) -> Self {
        Self {
            alive: true,
            left: writes,
            write: Write::None,
            queue: Vec::new(),
            sent: Vec::new(),
            heard_at: 0,
        }
    }

    /// It holds nothing back.
    pub(crate) fn settled(&self) -> bool {
        self.alive && self.write == Write::None && self.queue.is_empty() && self.sent.is_empty()
    }

    /// As `Outbox::push` and `shrink`: too much becomes one event that names everything.
    fn push(&mut self, next: Queued, bounds: &Bounds, witness: &Witness) {
        if self.queue.len() < bounds.outbox {
            self.queue.push(next);
            return;
        }
        if without(Mechanism::Collapse) {
            return;
        }
        witness.note(Seen::Collapsed);
        let mut all = Queued {
            what: What::All,
            ..next
        };
        for queued in self.queue.drain(..) {
            all.covers = all.covers.max(queued.covers);
            all.clears.extend(queued.clears);
        }
        self.queue.push(all);
    }

    /// A verification is sent: what has been acknowledged so far, it can confirm.
    pub(crate) fn mark_sent(&mut self) {
        for sent in &mut self.sent {
            sent.before = true;
        }
    }

    /// As `Outbox::confirm`: what the head does not show goes out again.
    pub(crate) fn confirm(&mut self, head: Position, bounds: &Bounds, witness: &Witness) {
        while self.sent.first().is_some_and(|sent| sent.before) {
            let sent = self.sent.remove(0);
            let kept = sent.position.epoch == head.epoch && sent.position.sequence <= head.sequence;
            if !kept {
                witness.note(Seen::Republished);
                let again = Queued {
                    what: sent.what,
                    covers: sent.covers,
                    clears: Vec::new(),
                };
                self.push(again, bounds, witness);
            }
        }
    }
}

/// The steps of writer `w`; each says whether it could be taken.
impl Model {
    /// Records the intent, or records it again because recording took too long.
    pub(crate) fn announce(&self, state: &mut State, w: usize) -> bool {
        let now = state.server.now;
        let writer = &state.writers[w];
        let deadline = match writer.write {
            Write::None if writer.left > 0 => now + WRITE_TIMEOUT,
            Write::Announced { at, deadline } if now > at => deadline,
            _ => return false,
        };
        if now >= deadline {
            return false;
        }
        let id = intent_of(w, writer.left);
        let payload = encode(None, What::Key);
        state.server.record(id_of(w), id, deadline - now, payload);
        state.writers[w].heard_at = now;
        state.writers[w].write = Write::Announced { at: now, deadline };
        true
    }

    /// The commit begins. At once `prompt`, it takes effect too and returns.
    pub(crate) fn commit(&self, state: &mut State, w: usize, prompt: bool) -> bool {
        let now = state.server.now;
        let writer = &mut state.writers[w];
        match writer.write {
            Write::None if !self.bounds.announced && writer.left > 0 && prompt => {
                writer.left -= 1;
                if without(Mechanism::PublishAfterCommit) {
                    writer.write = Write::PublishedFirst;
                    self.publish_later(state, w, Vec::new());
                } else {
                    writer.write = Write::Committed { intent: None };
                    state.commit(w, None);
                    self.returned(state, w);
                }
            }
            Write::PublishedFirst => {
                writer.write = Write::None;
                state.commit(w, None);
            }
            Write::Announced { at, deadline } => {
                let recent = 2 * (now - at) <= MEMBER_TIMEOUT || without(Mechanism::WritersGate);
                if !recent || now >= deadline || state.committing.is_some() {
                    return false;
                }
                let intent = Some(intent_of(w, writer.left));
                writer.left -= 1;
                if prompt {
                    writer.write = Write::Committed { intent };
                    state.commit(w, Some(now + MEMBER_TIMEOUT));
                    self.returned(state, w);
                } else {
                    writer.write = Write::Asked { deadline };
                    state.committing = Some(Committing {
                        writer: w,
                        deadline,
                    });
                }
            }
            _ => return false,
        }
        true
    }

    /// The database decides on a commit that was sent: until its deadline.
    pub(crate) fn database_commits(&self, state: &mut State) -> bool {
        let Some(Committing { writer, deadline }) = state.committing else {
            return false;
        };
        if state.server.now >= deadline {
            return false;
        }
        state.committing = None;
        self.witness.note(Seen::LateCommit);
        state.commit(writer, Some(deadline));
        if let Write::Asked { .. } = state.writers[writer].write {
            let intent = Some(intent_of(writer, state.writers[writer].left + 1));
            state.writers[writer].write = Write::Committed { intent };
        }
        true
    }

    /// Where there is no local drop to be late, what follows the commit is one step with it.
    fn returned(&self, state: &mut State, w: usize) {
        if w != READER {
            self.invalidate(state, w);
        }
    }

    /// The commit has returned: the local drop, then the event.
    pub(crate) fn invalidate(&self, state: &mut State, w: usize) -> bool {
        let Write::Committed { intent } = state.writers[w].write else {
            return false;
        };
        state.writers[w].write = Write::None;
        self.publish_later(state, w, intent.into_iter().collect());
        true
    }

    /// The caller goes away while the commit is under way: invalidated now, and at the deadline.
    pub(crate) fn abandon(&self, state: &mut State, w: usize) -> bool {
        let Write::Asked { deadline } = state.writers[w].write else {
            return false;
        };
        if without(Mechanism::PublishAtDeadline) {
            let intent = intent_of(w, state.writers[w].left + 1);
            state.writers[w].write = Write::None;
            self.publish_later(state, w, vec![intent]);
        } else {
            state.writers[w].write = Write::Abandoned { deadline };
            self.publish_later(state, w, Vec::new());
        }
        true
    }

    /// The deadline of a write of unknown outcome.
    pub(crate) fn deadline(&self, state: &mut State, w: usize) -> bool {
        match state.writers[w].write {
            Write::Abandoned { deadline } if state.server.now >= deadline => {
                state.writers[w].write = Write::None;
                let intent = intent_of(w, state.writers[w].left + 1);
                self.publish_later(state, w, vec![intent]);
                true
            }
            _ => false,
        }
    }

    fn publish_later(&self, state: &mut State, w: usize, clears: Vec<IntentId>) {
        if w == READER {
            let newest = state.database;
            state.reader.store.invalidate(newest);
        }
        let next = Queued {
            what: What::Key,
            covers: state.database,
            clears,
        };
        state.writers[w].push(next, &self.bounds, &self.witness);
    }

    /// Another key is written.
    pub(crate) fn write_other(&self, state: &mut State, w: usize) -> bool {
        if state.left.others == 0 || !state.writers[w].alive {
            return false;
        }
        state.left.others -= 1;
        let next = Queued {
            what: What::Other,
            covers: 0,
            clears: Vec::new(),
        };
        state.writers[w].push(next, &self.bounds, &self.witness);
        true
    }

    /// The next event goes out. `demoted`: to the old primary. `lost`: its acknowledgement is.
    pub(crate) fn publish(&self, state: &mut State, w: usize, demoted: bool, lost: bool) -> bool {
        let writer = &mut state.writers[w];
        if writer.queue.is_empty() || (lost && state.left.losses == 0) {
            return false;
        }
        let server = match &mut state.demoted {
            Some(old) if demoted => old,
            None if demoted => return false,
            _ => &mut state.server,
        };
        let next = writer.queue[0].clone();
        let published = server.publish(encode(Some(w), next.what), &next.clears);
        if lost {
            state.left.losses -= 1;
        } else {
            writer.queue.remove(0);
            // Only what an old primary took can be lost to instances that read the new one: elsewhere the
            // new epoch's fence drops what a failover forgot. Fewer states.
            if self.bounds.split && !without(Mechanism::Republishing) {
                writer.sent.push(Sent {
                    position: published.position,
                    what: next.what,
                    covers: next.covers,
                    before: false,
                });
            }
        }
        state.deliver(published, next.covers, !demoted);
        true
    }

    /// A verification of an instance that does not read, at one stroke.
    pub(crate) fn beat(&self, state: &mut State, w: usize) -> bool {
        if state.left.beats == 0 || !state.writers[w].alive {
            return false;
        }
        state.left.beats -= 1;
        let (verified, published) = state.server.verify(id_of(w));
        self.recovered(published, state);
        let now = state.server.now;
        let writer = &mut state.writers[w];
        writer.heard_at = now;
        writer.mark_sent();
        writer.confirm(verified.head, &self.bounds, &self.witness);
        if !verified.known {
            self.register_again(state, w);
        }
        true
    }

    /// As `reregister`: the server did not know the instance.
    pub(crate) fn register_again(&self, state: &mut State, w: usize) {
        let now = state.server.now;
        let writer = &state.writers[w];
        let (id, deadline) = match writer.write {
            Write::Announced { deadline, .. } => (intent_of(w, writer.left), deadline),
            Write::Asked { deadline } | Write::Abandoned { deadline } => {
                (intent_of(w, writer.left + 1), deadline)
            }
            Write::None | Write::Committed { .. } | Write::PublishedFirst => return,
        };
        self.witness.note(Seen::Registered);
        let left = deadline.saturating_sub(now);
        state
            .server
            .record(id_of(w), id, left, encode(None, What::Key));
    }

    pub(crate) fn crash(&self, state: &mut State, w: usize) -> bool {
        if state.left.crashes == 0 || !state.writers[w].alive {
            return false;
        }
        state.left.crashes -= 1;
        let heard_at = state.writers[w].heard_at;
        state.writers[w] = Writer {
            alive: false,
            heard_at,
            ..Writer::new(0)
        };
        true
    }

    pub(crate) fn recovered(
        &self,
        published: Vec<crate::bus::local::lane::Published>,
        state: &mut State,
    ) {
        for published in published {
            self.witness.note(Seen::Recovered);
            if state
                .log
                .iter()
                .any(|message| message.payload == published.payload)
            {
                self.witness.note(Seen::RecoveredAgain);
            }
            let covers = state.database;
            state.deliver(published, covers, true);
        }
    }
}
