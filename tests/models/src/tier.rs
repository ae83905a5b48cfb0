//! The shared tier of one key: two instances, of which one writes, and a server that keeps a value.
//!
//! Unlike the rest of this package it restates the rules in place of compiling them in (they are in
//! `src/bus/local/record.rs`, `src/shared/reader.rs` and the scripts), because a value is told by
//! one number here. Verifications, loads and stores are under way while others happen; any message
//! may be heard late or never; the server may be replaced by a replica that lost its tail, which
//! hands numbers out again until it is verified.
//!
//! Not expressed: an old primary that still answers. Both connections of an instance lead to one
//! server, and a fetch from a server that is behind what was applied here is refused; the tests
//! over Sentinel and Cluster have that.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Property};

type Version = u8;

/// The instance that writes, and the one that only reads.
const WRITER: usize = 0;

/// What may be left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A value does not count once its key was invalidated after its load began.
    Record,
    /// A record that has missed an event says nothing any more.
    Hole,
    /// A server that has not been verified in this life has no values.
    Sound,
    /// A store is checked as a fetch is.
    CheckedStore,
    /// An own event is applied again once it is recorded.
    OwnEcho,
    /// What was invalidated while it was on its way is not kept.
    Token,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commits, each followed by its invalidation.
    pub writes: u8,
    /// Lives of the server after the first.
    pub failovers: u8,
    /// Times that the server loses everything but goes on.
    pub flushes: u8,
    /// Events of another key.
    pub others: u8,
    /// Events that are published past the record.
    pub bypasses: u8,
    /// Steps of the longest schedules; `None`: all states.
    pub steps: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Position {
    epoch: u8,
    sequence: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value {
    position: Position,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    epoch: u8,
    upto: u8,
    floor: u8,
    /// The latest invalidation of the key.
    last: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    head: Position,
    /// In which life it was verified last.
    verified_in: Option<u8>,
    record: Option<Record>,
    value: Option<Value>,
}

/// Where a read that found nothing in memory has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Asking,
    Answered(Position, Answer),
    /// What its value may be stored as.
    Loading(Option<Position>),
    Loaded(Option<Position>, Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Value(Version),
    Nothing,
    NoRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Load {
    stage: Stage,
    /// Applied here before it asked.
    applied: Position,
    outdated: bool,
    /// The newest version whose invalidation was applied before it began.
    wanted: Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Instance {
    entry: Option<Version>,
    applied: Option<Position>,
    /// The newest version whose invalidation has been applied, for the writer: acknowledged.
    seen: Version,
    /// The version that was published when the last proven verification was sent.
    verified: Version,
    /// What was published when a verification was sent, and the head it found.
    asked: Option<(Version, Position)>,
    load: Option<Load>,
    /// A value on its way to the server.
    store: Option<Value>,
    went_back: bool,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    database: Version,
    /// A commit that is to be published.
    committed: Option<Version>,
    published: Version,
    server: Server,
    replica: Server,
    life: u8,
    flushes: u8,
    others: u8,
    bypasses: u8,
    epochs: u8,
    /// All messages, any of which may be heard at any time; version 0 is another key's.
    messages: Vec<(Position, Version)>,
    instances: [Instance; 2],
}

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

/// What the checker explores.
#[derive(Clone, Copy, Debug)]
pub struct Tier {
    /// How much may happen.
    pub limits: Limits,
    /// What is left out.
    pub without: Option<Cut>,
}

impl Server {
    fn counting(&self, tier: &Tier) -> Option<Record> {
        self.record.filter(|record| {
            let whole = record.upto == self.head.sequence || tier.lacks(Cut::Hole);
            record.epoch == self.head.epoch && whole
        })
    }

    fn publish(&mut self, names_the_key: bool) -> Position {
        self.head.sequence += 1;
        let Position { epoch, sequence } = self.head;
        if let Some(record) = &mut self.record
            && record.epoch == epoch
            && record.upto + 1 == sequence
        {
            record.upto = sequence;
            if names_the_key {
                record.last = sequence;
            }
        }
        self.head
    }

    fn fetch(&self, tier: &Tier, life: u8) -> Answer {
        let sound = self.verified_in == Some(life) || tier.lacks(Cut::Sound);
        match (self.counting(tier).filter(|_| sound), self.value) {
            (None, _) => Answer::NoRecord,
            (Some(record), Some(value)) if record.counts(tier, value.position) => {
                Answer::Value(value.version)
            }
            _ => Answer::Nothing,
        }
    }

    fn store(&mut self, tier: &Tier, value: Value) {
        let at = value.position;
        let newer = self.value.is_some_and(|old| {
            old.position.epoch == at.epoch && old.position.sequence > at.sequence
        });
        let counts = self
            .counting(tier)
            .is_some_and(|record| at.sequence <= self.head.sequence && record.counts(tier, at));
        if (counts && !newer) || tier.lacks(Cut::CheckedStore) {
            let position = if tier.lacks(Cut::CheckedStore) {
                self.head
            } else {
                at
            };
            self.value = Some(Value { position, ..value });
        }
    }
}

impl Record {
    fn counts(&self, tier: &Tier, position: Position) -> bool {
        let newest = self.last.max(self.floor);
        position.epoch == self.epoch && (newest <= position.sequence || tier.lacks(Cut::Record))
    }
}

impl Instance {
    fn drop_entry(&mut self) {
        self.entry = None;
        if let Some(load) = &mut self.load {
            load.outdated = true;
        }
    }

    fn apply(&mut self, version: Version) {
        if version > 0 {
            self.drop_entry();
        }
        self.seen = self.seen.max(version);
    }

    /// The read ends with this version; whether it is kept.
    fn land(&mut self, load: Load, version: Version, tier: &Tier) -> bool {
        self.load = None;
        self.went_back |= version < load.wanted;
        let kept = !load.outdated || tier.lacks(Cut::Token);
        if kept {
            self.entry = Some(version);
        }
        kept
    }

    fn prove(&mut self) {
        if let (Some((due, head)), Some(applied)) = (self.asked, self.applied)
            && head.epoch == applied.epoch
            && head.sequence <= applied.sequence
        {
            self.verified = self.verified.max(due);
            self.asked = None;
        }
    }
}

/// The steps; each says whether it could be taken.
impl Tier {
    fn lacks(&self, cut: Cut) -> bool {
        self.without == Some(cut)
    }

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
                // Connections are lost, and verifications from before count no more.
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

impl stateright::Model for Tier {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Commit, Publish, PublishPastTheRecord, PublishAnother]);
        actions.extend([Replicate, FailOver, Flush]);
        actions.extend((0..state.messages.len()).map(Hear));
        for who in 0..state.instances.len() {
            actions.extend([Verify(who), Learn(who), Read(who), FetchIsServed(who)]);
            actions.extend([FetchReplies(who), LoadReads(who), LoadEnds(who)]);
            actions.extend([StoreIsServed(who), StoreIsLost(who)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action)?;
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what is vouched for is not older than that",
                |_, state: &State| {
                    let vouched = |it: &Instance| it.entry.is_none_or(|entry| entry >= it.verified);
                    state.instances.iter().all(vouched)
                },
            ),
            Property::always(
                "what was invalidated is never seen again",
                |_, state: &State| {
                    let seen = |it: &Instance| it.entry.is_none_or(|entry| entry >= it.seen);
                    state.instances.iter().all(|it| seen(it) && !it.went_back)
                },
            ),
            Property::sometimes("a value is found in the tier", |_, state: &State| {
                let found = |it: &Instance| {
                    let load = it.load.map(|load| load.stage);
                    matches!(load, Some(Stage::Answered(_, Answer::Value(_))))
                };
                state.instances.iter().any(found)
            }),
        ]
    }
}

/// What a check of the tier has found.
#[derive(Debug)]
pub struct Outcome {
    /// Which promise is broken, and how to get there.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// Something was found in the tier.
    pub found: bool,
    /// States that are different.
    pub states: usize,
}

/// Explores everything within the limits.
#[must_use]
pub fn check_tier(tier: Tier, limit: Duration) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = stateright::Model::checker(tier).threads(threads);
    if let Some(steps) = tier.limits.steps {
        // The checker counts states.
        builder = builder.target_max_depth(steps + 1);
    }
    let checker = builder
        .timeout(limit)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut outcome = Outcome {
        broken: None,
        found: false,
        states: checker.unique_state_count(),
    };
    for (name, path) in checker.discoveries() {
        if name == "a value is found in the tier" {
            outcome.found = true;
        } else {
            outcome.broken = Some((name, path.into_actions()));
        }
    }
    outcome
}
