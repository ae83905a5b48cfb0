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

const ONE: Bounds = Bounds {
    writes: [0, 1],
    ..Bounds::NONE
};

#[test]
fn lost_doubled_and_reordered_messages_serve_nothing_stale() {
    let bounds = Bounds {
        others: 1,
        cold: true,
        slow_loads: true,
        slow_journal: true,
        ..ONE
    };
    let seen = [
        Seen::Hit,
        Seen::NewestHit,
        Seen::Discarded,
        Seen::Applied,
        Seen::Duplicate,
        Seen::Repaired,
        Seen::RepairInPages,
    ];
    holds(bounds, &seen);
}

#[test]
fn an_instance_that_reads_what_it_writes_serves_nothing_stale() {
    let bounds = Bounds {
        writes: [1, 1],
        ..Bounds::NONE
    };
    holds(bounds, &[Seen::OwnEcho, Seen::Applied, Seen::Hit]);
}

#[test]
fn a_failover_that_hands_numbers_out_again_serves_nothing_stale() {
    let bounds = Bounds {
        failovers: 1,
        ..ONE
    };
    let seen = [Seen::Adopted, Seen::OtherEpoch];
    holds(bounds, &seen);
}

#[test]
fn a_flush_serves_nothing_stale() {
    let bounds = Bounds { flushes: 1, ..ONE };
    holds(bounds, &[Seen::Adopted, Seen::OtherEpoch]);
}

#[test]
fn an_eviction_of_the_counter_or_the_journal_serves_nothing_stale() {
    let bounds = Bounds {
        evictions: 1,
        ..ONE
    };
    holds(bounds, &[Seen::Adopted, Seen::RepairFenced]);
}

#[test]
fn an_old_primary_that_still_answers_is_not_believed() {
    let bounds = Bounds {
        failovers: 1,
        split: true,
        beats: 1,
        steps: Some(15),
        ..ONE
    };
    holds(bounds, &[Seen::DemotedRefused, Seen::Republished]);
}

#[test]
fn the_write_of_a_writer_that_crashes_is_finished() {
    let bounds = Bounds {
        announced: true,
        crashes: 1,
        ticks: 3,
        journal: 0,
        steps: Some(15),
        ..ONE
    };
    holds(
        bounds,
        &[Seen::Recovered, Seen::RecoveredAgain, Seen::LateCommit],
    );
}

#[test]
fn a_commit_that_was_dropped_and_takes_effect_late_leaves_nothing_stale() {
    let bounds = Bounds {
        announced: true,
        beats: 1,
        ticks: 3,
        journal: 0,
        steps: Some(14),
        ..ONE
    };
    holds(bounds, &[Seen::LateCommit]);
}

#[test]
fn messages_of_strangers_serve_nothing_stale() {
    let bounds = Bounds {
        strangers: 1,
        ..ONE
    };
    holds(bounds, &[Seen::RepairFenced]);
}

#[test]
fn an_outbox_that_collapses_loses_no_invalidation() {
    let bounds = Bounds {
        others: 1,
        outbox: 1,
        ..ONE
    };
    holds(bounds, &[Seen::Collapsed, Seen::Hit]);
}
