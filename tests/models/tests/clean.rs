//! The protocol as it is: within these bounds nothing breaks the promise.

use std::time::Duration;

use unstale_models::{Bounds, Report, Seen, check};

/// For a machine that does ten other things; each of these takes seconds on an idle one.
const LIMIT: Duration = Duration::from_secs(240);

fn holds(bounds: Bounds, seen: &[Seen]) -> Report {
    let report = check(bounds, None, LIMIT);
    assert!(report.broken.is_none(), "{report:?}");
    assert!(report.complete, "not all states in {LIMIT:?}: {report:?}");
    for thing in seen {
        assert!(report.has(*thing), "never seen: {thing:?} in {report:?}");
    }
    report
}

#[test]
fn messages_lost_doubled_and_reordered() {
    let bounds = Bounds {
        writes: [0, 1],
        others: 1,
        ..Bounds::NONE
    };
    let seen = [
        Seen::Hit,
        Seen::NewestHit,
        Seen::Discarded,
        Seen::Repaired,
        Seen::Duplicate,
    ];
    holds(bounds, &seen);
}

#[test]
fn an_instance_that_reads_what_it_writes() {
    let bounds = Bounds {
        writes: [1, 1],
        ..Bounds::NONE
    };
    holds(bounds, &[Seen::OwnEcho, Seen::Applied, Seen::Hit]);
}
