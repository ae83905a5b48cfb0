//! The shared tier of one key: two instances, of which one writes, and a server that keeps a value.
//!
//! Unlike the rest of this package it restates the rules in place of compiling them in (they are in
//! `src/bus/local/{tier,history}.rs`, `src/tier/client.rs` and the scripts), because a value is identified by
//! one number here. Verifications, loads and stores are under way while others happen; any message
//! may be heard late or never; the server may be replaced by a replica that lost its tail, which
//! hands numbers out again until it is verified.
//!
//! Not expressed: an old primary that still answers. Both connections of an instance lead to one
//! server, and a fetch from a server that is behind what was applied here is refused; the tests
//! over Sentinel and Cluster have that.

mod check;
mod limits;
mod state;

pub use check::check_tier;
pub use limits::{Cut, Limits, Tier};
use state::{Answer, Instance, Load, Position, Record, Server, Stage, State, Value};

/// The instance that writes, and the one that only reads.
const WRITER: usize = 0;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what happens")]
pub enum Action {
    Commit,
    Publish,
    PublishPastTheRecord,
    PublishAnother,
    Hear(usize),
    Verify(usize),
    Learn(usize),
    Read(usize),
    FetchIsServed(usize),
    FetchReplies(usize),
    LoadReads(usize),
    LoadEnds(usize),
    StoreIsServed(usize),
    StoreIsLost(usize),
    Replicate,
    FailOver,
    Flush,
}

/// The steps; each says whether it could be taken.
impl Tier {
    fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Commit => self.commit(state)?,
            Action::Publish => self.publish(state, false)?,
            Action::PublishPastTheRecord => {
                (state.bypasses < self.limits.bypasses).then_some(())?;
                state.bypasses += 1;
                self.publish(state, true)?;
            }
            Action::PublishAnother => {
                (state.others < self.limits.others).then_some(())?;
                state.others += 1;
                let position = Self::place(state, |server| server.publish(false));
                state.messages.push((position, 0));
            }
            Action::Hear(number) => Self::hear(state, number)?,
            Action::Verify(who) => Self::verify(state, who)?,
            Action::Learn(who) => Self::learn(state, who)?,
            Action::Read(who) => Self::read(&mut state.instances[who])?,
            Action::FetchIsServed(_)
            | Action::FetchReplies(_)
            | Action::LoadReads(_)
            | Action::LoadEnds(_) => self.advance(state, action)?,
            Action::StoreIsServed(who) => {
                let value = state.instances[who].store.take()?;
                state.server.store(self, value);
            }
            Action::StoreIsLost(who) => drop(state.instances[who].store.take()?),
            Action::Replicate => state.replica = state.server,
            Action::FailOver => {
                (state.life < self.limits.failovers).then_some(())?;
                state.life += 1;
                state.server = state.replica;
                // Connections are lost, and verifications from before no longer count.
                for instance in &mut state.instances {
                    instance.asked = None;
                }
            }
            Action::Flush => {
                (state.flushes < self.limits.flushes).then_some(())?;
                state.flushes += 1;
                state.server = Server::default();
            }
        }
        Some(())
    }

    fn commit(&self, state: &mut State) -> Option<()> {
        let free = state.committed.is_none() && state.database < self.limits.writes;
        free.then_some(())?;
        state.database += 1;
        state.committed = Some(state.database);
        state.instances[WRITER].drop_entry();
        Some(())
    }

    /// The lane has a number to give.
    fn place(state: &mut State, publish: impl FnOnce(&mut Server) -> Position) -> Position {
        if state.server.head.epoch == 0 {
            state.epochs += 1;
            state.server.head.epoch = state.epochs;
        }
        publish(&mut state.server)
    }

    /// Published and acknowledged.
    fn publish(&self, state: &mut State, past_the_record: bool) -> Option<()> {
        let version = state.committed.take()?;
        let position = Self::place(state, |server| {
            let record = server.record;
            let position = server.publish(true);
            if past_the_record {
                server.record = record;
            }
            position
        });
        state.messages.push((position, version));
        state.published = version;
        let writer = &mut state.instances[WRITER];
        if !self.lacks(Cut::OwnEcho) {
            writer.drop_entry();
        }
        writer.seen = version;
        if let Some(applied) = &mut writer.applied
            && applied.epoch == position.epoch
            && applied.sequence + 1 == position.sequence
        {
            *applied = position;
            writer.prove();
        }
        Some(())
    }

    fn hear(state: &mut State, number: usize) -> Option<()> {
        let (position, version) = *state.messages.get(number)?;
        let mut heard = None;
        for instance in &mut state.instances {
            let applied = instance.applied.as_mut();
            if let Some(applied) = applied.filter(|applied| {
                applied.epoch == position.epoch && applied.sequence + 1 == position.sequence
            }) {
                *applied = position;
                instance.apply(version);
                instance.prove();
                heard = Some(());
            }
        }
        heard
    }

    /// Sent and served.
    fn verify(state: &mut State, who: usize) -> Option<()> {
        state.instances[who].asked.is_none().then_some(())?;
        let (server, life) = (&mut state.server, state.life);
        if server.verified_in != Some(life) || server.head.epoch == 0 {
            state.epochs += 1;
            server.head.epoch = state.epochs;
            server.verified_in = Some(life);
        }
        let head = server.head;
        let whole = |record: &Record| record.epoch == head.epoch && record.upto == head.sequence;
        if !server.record.as_ref().is_some_and(whole) {
            server.record = Some(Record {
                epoch: head.epoch,
                upto: head.sequence,
                floor: head.sequence,
                last: 0,
            });
        }
        state.instances[who].asked = Some((state.published, head));
        Some(())
    }

    fn learn(state: &mut State, who: usize) -> Option<()> {
        let instance = &mut state.instances[who];
        let (_, head) = instance.asked?;
        if instance
            .applied
            .is_none_or(|applied| applied.epoch != head.epoch)
        {
            instance.applied = Some(head);
            instance.asked = None;
            instance.drop_entry();
            return Some(());
        }
        let before = instance.asked;
        instance.prove();
        (instance.asked != before).then_some(())
    }

    fn read(instance: &mut Instance) -> Option<()> {
        let idle = instance.entry.is_none() && instance.load.is_none();
        idle.then_some(())?;
        instance.load = Some(Load {
            stage: Stage::Asking,
            applied: instance.applied?,
            outdated: false,
            wanted: instance.seen,
        });
        Some(())
    }

    /// A read goes on.
    fn advance(&self, state: &mut State, action: Action) -> Option<()> {
        let (Action::FetchIsServed(who)
        | Action::FetchReplies(who)
        | Action::LoadReads(who)
        | Action::LoadEnds(who)) = action
        else {
            return None;
        };
        let instance = &mut state.instances[who];
        let load = instance.load?;
        let stage = match (action, load.stage) {
            (Action::FetchIsServed(_), Stage::Asking) => {
                Stage::Answered(state.server.head, state.server.fetch(self, state.life))
            }
            (Action::FetchReplies(_), Stage::Answered(head, answer)) => {
                let behind =
                    head.epoch != load.applied.epoch || head.sequence < load.applied.sequence;
                match answer {
                    Answer::Value(version) if !behind => {
                        instance.land(load, version, self);
                        return Some(());
                    }
                    Answer::Nothing => Stage::Loading(Some(head)),
                    Answer::Value(_) | Answer::NoRecord => Stage::Loading(None),
                }
            }
            (Action::LoadReads(_), Stage::Loading(ticket)) => Stage::Loaded(ticket, state.database),
            (Action::LoadEnds(_), Stage::Loaded(ticket, version)) => {
                if instance.land(load, version, self) && instance.store.is_none() {
                    instance.store = ticket.map(|position| Value { position, version });
                }
                return Some(());
            }
            _ => return None,
        };
        instance.load = Some(Load { stage, ..load });
        Some(())
    }
}
