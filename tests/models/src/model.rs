//! The steps and what must hold after each of them, for the checker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Property};

use crate::state::{Bounds, OTHER, READER, Seen, State};
use crate::without::{Mechanism, Without};

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
        let bit = 1 << seen as u32;
        // Read first: all threads note the same few things all the time.
        if self.0.load(Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Relaxed);
        }
    }

    fn has(&self, seen: Seen) -> bool {
        self.0.load(Relaxed) & 1 << seen as u32 != 0
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

    fn writer_actions(&self, state: &State, w: usize, actions: &mut Vec<Action>) {
        if self.bounds.announced {
            actions.push(Action::Announce(w));
            actions.push(Action::Commit {
                writer: w,
                prompt: false,
            });
            actions.push(Action::Abandon(w));
            actions.push(Action::Deadline(w));
        }
        actions.push(Action::Commit {
            writer: w,
            prompt: true,
        });
        actions.push(Action::Invalidate(w));
        for lost in [false, true] {
            actions.push(Action::Publish {
                writer: w,
                demoted: false,
                lost,
            });
        }
        if state.demoted.is_some() {
            actions.push(Action::Publish {
                writer: w,
                demoted: true,
                lost: false,
            });
        }
    }
}

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([
            Action::LoadBegins,
            Action::LoadReads,
            Action::LoadEnds,
            Action::VerificationIsSent,
            Action::VerificationReplies,
            Action::VerificationIsLost,
            Action::HearStranger,
            Action::AsksForSilence,
            Action::ReaderRestarts,
            Action::DatabaseCommits,
            Action::WriteOther,
            Action::Crash,
            Action::Tick,
            Action::Flush,
            Action::DropCounter,
            Action::DropJournal,
            Action::DemotedEnds,
        ]);
        // Otherwise nobody needs to know that the other instance is alive.
        if self.bounds.announced || self.bounds.failovers > 0 {
            actions.push(Action::Beat);
        }
        for demoted in [false, true] {
            if demoted <= state.demoted.is_some() {
                actions.push(Action::VerificationIsServed { demoted });
                let reads = 0..state.reader.reads();
                actions.extend(reads.map(|number| Action::JournalIsServed { number, demoted }));
            }
        }
        for number in 0..state.reader.reads() {
            actions.push(Action::JournalReplies(number));
            actions.push(Action::JournalIsLost(number));
        }
        actions.extend((0..state.log.len()).map(Action::Hear));
        actions.extend([0, 1].map(|losing| Action::FailOver { losing }));
        for w in [READER, OTHER] {
            self.writer_actions(state, w, actions);
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
            Property::always(NOT_OLDER_THAN_VOUCHED, |_, state: &State| {
                let store = &state.reader.store;
                let entry = store.entry.as_ref();
                entry.is_none_or(|entry| entry.version >= store.vouched(entry))
            }),
            Property::always(NOT_OLDER_THAN_APPLIED, |_, state: &State| {
                let store = &state.reader.store;
                let entry = store.entry.as_ref();
                entry.is_none_or(|entry| entry.version >= store.applied) && !store.went_back
            }),
        ]
    }
}

const NOT_OLDER_THAN_VOUCHED: &str = "what is vouched for is not older than that";
const NOT_OLDER_THAN_APPLIED: &str = "what was invalidated is never seen again";

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// Which property is broken, and the shortest way there.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// Every state was looked at.
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
    let checker = stateright::Model::checker(model)
        .threads(threads)
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
