//! The promises, and the search for a schedule that breaks one.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Property};

use super::Action;
use super::limits::Tier;
use super::state::{Answer, Instance, Stage, State};

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
                "what is proven fresh is not older than that",
                |_, state: &State| {
                    let fresh = |it: &Instance| it.entry.is_none_or(|entry| entry >= it.verified);
                    state.instances.iter().all(fresh)
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
