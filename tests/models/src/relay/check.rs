//! The promise of the marks, and the search for a schedule that breaks it.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Property};

use super::bounds::{RelayBounds, RelaySeen};
use super::instance::commits_at;
use super::state::State;
use super::{Action, Relaying};
use crate::model::Witness;
use crate::mutants::{Mechanism, Without};

impl stateright::Model for Relaying {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    /// What may be possible; the steps themselves know whether it is.
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.instance_actions(state, actions);
        for r in 0..state.relays.len() {
            self.relay_actions(state, r, actions);
        }
        self.lane_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        // Here and not around the check: the checker has threads of its own.
        let _without = self.without.map(Without::new);
        let mut state = last.clone();
        self.step(&mut state, action)?;
        state.settle();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what is held is not older than proven",
                |_, state: &State| {
                    let instance = &state.instance;
                    let proven = commits_at(instance.proven);
                    instance.entry.is_none_or(|version| version >= proven)
                },
            ),
            Property::always(
                "what will be stored is not older than proven",
                |_, state: &State| {
                    let instance = &state.instance;
                    let proven = commits_at(instance.proven);
                    // What a replica had is looked at when it ends.
                    let load = instance.load.filter(|_| !instance.of_replica);
                    load.is_none_or(|version| version >= proven)
                },
            ),
        ]
    }
}

/// What a check has found.
#[derive(Debug)]
pub struct RelayReport {
    /// Which property is broken, and the shortest way there.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// Every state within the bounds was looked at.
    pub complete: bool,
    pub states: usize,
    pub took: Duration,
    witness: Witness,
}

impl RelayReport {
    #[must_use]
    pub fn has(&self, seen: RelaySeen) -> bool {
        self.witness.is_set(seen as u32)
    }
}

/// Explores everything that may happen within the bounds, breadth first, until a property breaks.
#[must_use]
pub fn check_relay(
    bounds: RelayBounds,
    without: Option<Mechanism>,
    limit: Duration,
) -> RelayReport {
    let witness = Witness::default();
    let model = Relaying {
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
    let found = checker.discoveries().into_iter();
    let broken = found.map(|(name, path)| (name, path.into_actions()));
    RelayReport {
        broken: broken.min_by_key(|(_, actions)| actions.len()),
        complete: took < limit,
        states: checker.unique_state_count(),
        took,
        witness,
    }
}
