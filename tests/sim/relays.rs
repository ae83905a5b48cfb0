//! What a relay does for the promise from the commit is taken out, and the judge must see that it is missing.
//!
//! As in `without`; the relay reads the log late, so that only what is proven too early is served. The model of marks
//! takes out the rest.

use unstale::internals::Mechanism;

use crate::options::CacheOptions;
use crate::schedule::{
    Schedule,
    What::{self, *},
};
use crate::without::{read, schedule, sees_in};

fn sees(
    mechanism: Mechanism,
    broken: &str,
    (late, replica): (u64, Option<u64>),
    steps: &[(u64, What)],
) {
    let rows = CacheOptions {
        source: true,
        replica,
        ..CacheOptions::default()
    };
    let relayed = Schedule {
        relay: Some(late),
        rows,
        ..schedule(steps)
    };
    sees_in(mechanism, broken, relayed);
}

/// Reads that come from memory if that may be, every 50 ms.
fn reads(from: u64, to: u64) -> impl Iterator<Item = (u64, What)> {
    (from..to).step_by(50).map(|at| (at, read(0)))
}

const fn silently() -> What {
    PutSilently { key: 0 }
}

/// The log is read commit by commit: a mark after one of them comes too early for those that follow.
#[test]
fn without_marks_after_publishing_the_simulator_sees_a_stale_read() {
    let other = PutSilently { key: 1 };
    let mut steps: Vec<_> = (500..520).map(|at| (at, other)).collect();
    steps.push((520, silently()));
    steps.extend(reads(100, 3_000));
    steps.sort_by_key(|(at, _)| *at);
    sees(
        Mechanism::MarksAfterPublishing,
        "too old since the commit",
        (40, None),
        &steps,
    );
}

/// 1: a row is replaced; 2: the event is applied; 3: a load reads a replica that does not have it yet, and what it read
/// is kept as though it were new.
#[test]
fn without_the_moment_of_replicas_the_simulator_sees_a_stale_read() {
    let mut steps = vec![(500, silently())];
    steps.extend(reads(100, 3_000));
    steps.sort_by_key(|(at, _)| *at);
    sees(
        Mechanism::MomentOfReplicas,
        "not pushed",
        (1, Some(1_000)),
        &steps,
    );
}
