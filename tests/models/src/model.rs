//! The steps and what must hold after each of them, for the checker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Property};

use crate::mutants::{Mechanism, Without};
use crate::state::{Bounds, OTHER, READER, Seen, State};
use crate::writer::Write;

/// What the checker explores.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) bounds: Bounds,
    without: Option<Mechanism>,
    pub(crate) witness: Witness,
}

/// What has been seen happening, in any state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<AtomicU32>);

impl Witness {
    pub(crate) fn note(&self, seen: Seen) {
        self.set(seen as u32);
    }

    pub(crate) fn set(&self, number: u32) {
        let bit = 1 << number;
        // Read first: all threads note the same few things all the time.
        if self.0.load(Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Relaxed);
        }
    }

    fn has(&self, seen: Seen) -> bool {
        self.is_set(seen as u32)
    }

    pub(crate) fn is_set(&self, number: u32) -> bool {
        self.0.load(Relaxed) & 1 << number != 0
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each names the method that it calls")]
pub enum Action {
    LoadBegins,
    LoadReads,
    LoadEnds,
    VerificationIsSent,
    VerificationIsServed {
        demoted: bool,
    },
    VerificationReplies,
    VerificationIsLost,
    Hear(usize),
    HearStranger,
    AsksForSilence,
    JournalIsServed {
        number: usize,
        demoted: bool,
    },
    JournalReplies(usize),
    JournalIsLost(usize),
    ReaderRestarts,
    Announce(usize),
    Commit {
        writer: usize,
        prompt: bool,
    },
    DatabaseCommits,
    Invalidate(usize),
    Abandon(usize),
    Deadline(usize),
    WriteOther,
    Publish {
        writer: usize,
        demoted: bool,
        lost: bool,
    },
    Beat,
    Crash,
    Tick,
    Flush,
    FailOver {
        losing: u64,
    },
    DropCounter,
    DropJournal,
    DemotedEnds,
}

impl Model {
    fn act(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::LoadBegins => self.load_begins(state),
            Action::LoadReads => self.load_reads(state),
            Action::LoadEnds => self.load_ends(state),
            Action::VerificationIsSent => self.verification_is_sent(state),
            Action::VerificationIsServed { demoted } => self.verification_is_served(state, demoted),
            Action::VerificationReplies => self.verification_replies(state),
            Action::VerificationIsLost => self.verification_is_lost(state),
            Action::Hear(number) => self.hear(state, number),
            Action::HearStranger => self.hear_stranger(state),
            Action::AsksForSilence => self.asks_for_silence(state),
            Action::JournalIsServed { number, demoted } => {
                self.journal_is_served(state, number, demoted)
                    && (self.bounds.slow_journal || self.journal_replies(state, number))
            }
            Action::JournalReplies(number) => self.journal_replies(state, number),
            Action::JournalIsLost(number) => self.journal_is_lost(state, number),
            Action::ReaderRestarts => self.reader_restarts(state),
            Action::Announce(w) => self.announce(state, w),
            Action::Commit { writer, prompt } => self.commit(state, writer, prompt),
            Action::DatabaseCommits => self.database_commits(state),
            Action::Invalidate(w) => self.invalidate(state, w),
            Action::Abandon(w) => self.abandon(state, w),
            Action::Deadline(w) => self.deadline(state, w),
            Action::WriteOther => self.write_other(state, OTHER),
            Action::Publish {
                writer,
                demoted,
                lost,
            } => self.publish(state, writer, demoted, lost),
            Action::Beat => self.beat(state, OTHER),
            Action::Crash => self.crash(state, OTHER),
            Action::Tick
            | Action::Flush
            | Action::FailOver { .. }
            | Action::DropCounter
            | Action::DropJournal
            | Action::DemotedEnds => self.strike(state, action),
        }
    }

    /// What happens to the server.
    fn strike(&self, state: &mut State, action: Action) -> bool {
        let left = &mut state.left;
        let budget = match action {
            Action::Flush => &mut left.flushes,
            Action::FailOver { .. } => &mut left.failovers,
            Action::DropCounter | Action::DropJournal => &mut left.evictions,
            Action::Tick if state.server.now < self.bounds.ticks => {
                state.server.now += 1;
                return true;
            }
            Action::DemotedEnds => return state.demoted.take().is_some(),
            _ => return false,
        };
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        match action {
            Action::Flush => state.server.flush(),
            Action::DropCounter => state.server.drop_counter(),
            Action::DropJournal => state.server.drop_journal(),
            Action::FailOver { losing } => {
                state.demoted = self.bounds.split.then(|| state.server.clone());
                state.server.restart_losing(losing);
            }
            _ => {}
        }
        true
    }

    fn reader_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let reader = &state.reader;
        actions.extend(match (&reader.store.entry, reader.store.load_has_read()) {
            (_, Some(true)) => vec![Action::LoadEnds, Action::LoadBegins],
            (_, Some(false)) => vec![Action::LoadReads, Action::LoadBegins],
            (None, None) => vec![Action::LoadBegins],
            (Some(_), None) => vec![],
        });
        let demoted = if state.demoted.is_some() { 2 } else { 1 };
        let servers = &[false, true][..demoted];
        match reader.verification_is_back() {
            None => actions.push(Action::VerificationIsSent),
            Some(true) => {
                actions.extend([Action::VerificationReplies, Action::VerificationIsLost]);
            }
            Some(false) => {
                let served = |demoted: &bool| Action::VerificationIsServed { demoted: *demoted };
                actions.extend(servers.iter().map(served));
                actions.push(Action::VerificationIsLost);
            }
        }
        for number in 0..reader.reads() {
            if reader.read_is_back(number) {
                actions.push(Action::JournalReplies(number));
            } else {
                for demoted in servers {
                    let demoted = *demoted;
                    actions.push(Action::JournalIsServed { number, demoted });
                }
            }
            actions.push(Action::JournalIsLost(number));
        }
        if !reader.repairing() {
            actions.extend((0..state.log.len()).map(Action::Hear));
            if reader.is_behind() {
                actions.push(Action::AsksForSilence);
            }
        }
        if state.left.strangers > 0 {
            actions.push(Action::HearStranger);
        }
        if state.left.restarts > 0 {
            actions.push(Action::ReaderRestarts);
        }
    }

    fn server_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.server.now < self.bounds.ticks {
            actions.push(Action::Tick);
        }
        if state.left.flushes > 0 {
            actions.push(Action::Flush);
        }
        if state.left.failovers > 0 {
            actions.extend([0, 1].map(|losing| Action::FailOver { losing }));
        }
        if state.left.evictions > 0 {
            actions.extend([Action::DropCounter, Action::DropJournal]);
        }
        if state.demoted.is_some() {
            actions.push(Action::DemotedEnds);
        }
    }

    fn writer_actions(&self, state: &State, w: usize, actions: &mut Vec<Action>) {
        let writer = &state.writers[w];
        match writer.write {
            Write::None if writer.left == 0 => {}
            Write::None if self.bounds.announced => actions.push(Action::Announce(w)),
            Write::None | Write::PublishedFirst => actions.push(commit(w, true)),
            Write::Announced { .. } => {
                actions.extend([Action::Announce(w), commit(w, true), commit(w, false)]);
            }
            Write::Asked { .. } => actions.push(Action::Abandon(w)),
            Write::Committed { .. } => actions.push(Action::Invalidate(w)),
            Write::Abandoned { .. } => actions.push(Action::Deadline(w)),
        }
        if writer.queue.is_empty() {
            return;
        }
        let publish = |demoted, lost| Action::Publish {
            writer: w,
            demoted,
            lost,
        };
        actions.push(publish(false, false));
        if state.left.losses > 0 {
            actions.push(publish(false, true));
        }
        if state.demoted.is_some() {
            actions.push(publish(true, false));
        }
    }
}

fn commit(writer: usize, prompt: bool) -> Action {
    Action::Commit { writer, prompt }
}

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(&self.bounds);
        if !self.bounds.cold {
            self.verification_is_sent(&mut state);
            self.verification_is_served(&mut state, false);
            self.verification_replies(&mut state);
        }
        vec![state]
    }

    /// What may be possible; the steps themselves know whether it is. Leaving out here what never
    /// is saves a copy of the state.
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.reader_actions(state, actions);
        self.server_actions(state, actions);
        for w in [READER, OTHER] {
            if state.writers[w].alive {
                self.writer_actions(state, w, actions);
            }
        }
        if state.committing.is_some() {
            actions.push(Action::DatabaseCommits);
        }
        if state.left.others > 0 {
            actions.push(Action::WriteOther);
        }
        if state.left.crashes > 0 {
            actions.push(Action::Crash);
        }
        if state.left.beats > 0 {
            actions.push(Action::Beat);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        // Here and not around the check: the checker has threads of its own.
        let _without = self.without.map(Without::new);
        let mut state = last.clone();
        if !self.act(&mut state, action) {
            return None;
        }
        state.update_due();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOT_OLDER_THAN_PROVEN, |_, state: &State| {
                let store = &state.reader.store;
                let entry = store.entry.as_ref();
                entry.is_none_or(|entry| entry.version >= store.verified)
            }),
            Property::always(NOT_OLDER_THAN_APPLIED, |_, state: &State| {
                let store = &state.reader.store;
                let entry = store.entry.as_ref();
                entry.is_none_or(|entry| entry.version >= store.applied) && !store.went_back
            }),
        ]
    }
}

const NOT_OLDER_THAN_PROVEN: &str = "what is proven fresh is not older than that";
const NOT_OLDER_THAN_APPLIED: &str = "what was invalidated is never seen again";

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// Which property is broken, and the shortest way there.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// Every state within the bounds was looked at.
    pub complete: bool,
    pub states: usize,
    pub took: Duration,
    witness: Witness,
}

impl Report {
    #[must_use]
    pub fn has(&self, seen: Seen) -> bool {
        self.witness.has(seen)
    }
}

/// Explores everything that may happen within the bounds, breadth first, until a property breaks.
#[must_use]
pub fn check(bounds: Bounds, without: Option<Mechanism>, limit: Duration) -> Report {
    let witness = Witness::default();
    let model = Model {
        bounds,
        without,
        witness: witness.clone(),
    };
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = stateright::Model::checker(model).threads(threads);
    if let Some(steps) = bounds.steps {
        // The checker counts states.
        builder = builder.target_max_depth(steps + 1);
    }
    let checker = builder
        .timeout(limit)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let took = begun.elapsed();
    let mut broken: Vec<_> = checker.discoveries().into_iter().collect();
    broken.sort_by_key(|(_, path)| path.clone().into_actions().len());
    let broken = broken
        .into_iter()
        .next()
        .map(|(name, path)| (name, path.into_actions()));
    Report {
        broken,
        complete: took < limit,
        states: checker.unique_state_count(),
        took,
        witness,
    }
}
