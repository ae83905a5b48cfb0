//! The protocol with one mechanism out: the model finds the stale read, so the mechanism is needed,
//! and the model able to see that.

use std::time::Duration;

use unstale_models::{Bounds, Mechanism, check};

/// For a machine that does ten other things; each of these takes a second or two on an idle one.
const LIMIT: Duration = Duration::from_secs(240);

fn breaks(bounds: Bounds, without: Option<Mechanism>) {
    let report = check(bounds, without, LIMIT);
    let (property, steps) = report.broken.as_ref().expect("a stale read");
    assert!(!property.is_empty() && steps.len() < 30, "{report:?}");
}

/// One write, and one of another key.
const ONE: Bounds = Bounds {
    slow_loads: true,
    writes: [0, 1],
    others: 1,
    ..Bounds::NONE
};

const ANNOUNCED: Bounds = Bounds {
    writes: [0, 1],
    announced: true,
    crashes: 1,
    ticks: 3,
    ..Bounds::NONE
};

const FAILOVER: Bounds = Bounds {
    writes: [0, 1],
    others: 1,
    failovers: 1,
    ..Bounds::NONE
};

const SPLIT: Bounds = Bounds {
    writes: [0, 1],
    failovers: 1,
    split: true,
    beats: 1,
    ..Bounds::NONE
};

#[test]
fn without_token_at_insert_the_model_finds_a_stale_read() {
    breaks(ONE, Some(Mechanism::TokenAtInsert));
}

#[test]
fn without_fence_of_loads_in_flight_the_model_finds_a_stale_read() {
    breaks(FAILOVER, Some(Mechanism::FenceOfLoadsInFlight));
}

#[test]
fn without_sequence_check_the_model_finds_a_stale_read() {
    breaks(ONE, Some(Mechanism::SequenceCheck));
}

#[test]
fn without_verification_the_model_finds_a_stale_read() {
    breaks(ONE, Some(Mechanism::Verification));
}

#[test]
fn without_epochs_the_model_finds_a_stale_read() {
    breaks(FAILOVER, Some(Mechanism::Epochs));
}

#[test]
fn without_fence_after_adoption_the_model_finds_a_stale_read() {
    breaks(FAILOVER, Some(Mechanism::FenceAfterAdoption));
}

#[test]
fn without_publish_after_commit_the_model_finds_a_stale_read() {
    breaks(ONE, Some(Mechanism::PublishAfterCommit));
}

#[test]
fn without_intent_recovery_the_model_finds_a_stale_read() {
    breaks(ANNOUNCED, Some(Mechanism::IntentRecovery));
}

#[test]
fn without_writers_gate_the_model_finds_a_stale_read() {
    breaks(ANNOUNCED, Some(Mechanism::WritersGate));
}

#[test]
fn without_publish_at_deadline_the_model_finds_a_stale_read() {
    breaks(ANNOUNCED, Some(Mechanism::PublishAtDeadline));
}

#[test]
fn without_republishing_the_model_finds_a_stale_read() {
    breaks(SPLIT, Some(Mechanism::Republishing));
}

#[test]
fn without_collapse_the_model_finds_a_stale_read() {
    let bounds = Bounds { outbox: 1, ..ONE };
    breaks(bounds, Some(Mechanism::Collapse));
}

#[test]
fn without_still_the_primary_the_model_finds_a_stale_read() {
    breaks(SPLIT, Some(Mechanism::StillThePrimary));
}

/// No mechanism of its own: a read that begins after an invalidation joins a load from before it.
#[test]
fn a_late_read_that_joins_an_invalidated_load_is_found() {
    let bounds = Bounds {
        join_invalidated: true,
        ..ONE
    };
    breaks(bounds, None);
}
