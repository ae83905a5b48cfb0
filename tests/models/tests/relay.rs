//! A relay's marks: within these bounds they prove nothing of what is older, and each rule is needed.

use std::time::Duration;

use unstale_models::{Mechanism, RelayBounds, RelaySeen, check_relay};

/// For a machine that does ten other things; each of these takes seconds on an idle one.
const LIMIT: Duration = Duration::from_secs(240);

const ONE: RelayBounds = RelayBounds::ONE;

const START: RelayBounds = RelayBounds {
    running: false,
    ..ONE
};

const FLUSH: RelayBounds = RelayBounds {
    verifications: 3,
    beats: 1,
    flushes: 1,
    ..ONE
};

const SPLIT: RelayBounds = RelayBounds {
    verifications: 3,
    failovers: 1,
    split: true,
    ..ONE
};

const LATE: RelayBounds = RelayBounds {
    late_sight: true,
    ..ONE
};

const REPLICA: RelayBounds = RelayBounds {
    replica: true,
    loads: 2,
    rounds: 2,
    verifications: 3,
    ..ONE
};

fn holds(bounds: RelayBounds, seen: &[RelaySeen]) {
    let report = check_relay(bounds, None, LIMIT);
    assert!(report.broken.is_none(), "{report:?}");
    assert!(report.complete, "not all states in {LIMIT:?}: {report:?}");
    let proofs = [RelaySeen::ProofOfEntry, RelaySeen::ProofOfLoad];
    for thing in proofs.iter().chain(seen) {
        assert!(report.has(*thing), "never seen: {thing:?} in {report:?}");
    }
}

fn breaks(bounds: RelayBounds, without: Option<Mechanism>) {
    let report = check_relay(bounds, without, LIMIT);
    let (property, steps) = report.broken.as_ref().expect("a stale proof");
    assert!(!property.is_empty() && steps.len() < 30, "{report:?}");
}

#[test]
fn marks_prove_nothing_of_what_is_older() {
    let bounds = RelayBounds {
        commits: 2,
        slow: true,
        losses: 1,
        ..ONE
    };
    holds(bounds, &[RelaySeen::Discarded, RelaySeen::PublishedTwice]);
}

#[test]
fn rounds_follow_each_other_and_prove_nothing_of_what_is_older() {
    let bounds = RelayBounds {
        commits: 2,
        verifications: 3,
        rounds: 2,
        ..ONE
    };
    holds(bounds, &[RelaySeen::Discarded]);
}

#[test]
fn a_relay_that_dies_and_starts_again_forgets_no_commit() {
    let bounds = RelayBounds {
        deaths: 1,
        rounds: 2,
        ..START
    };
    holds(bounds, &[RelaySeen::Opened, RelaySeen::Discarded]);
}

#[test]
fn two_relays_at_once_prove_nothing_of_what_is_older() {
    let bounds = RelayBounds {
        relays: 2,
        rounds: 2,
        verifications: 3,
        ..ONE
    };
    holds(bounds, &[RelaySeen::Discarded]);
}

#[test]
fn marks_of_an_epoch_that_is_over_prove_nothing() {
    let seen = [
        RelaySeen::AdoptedAfterProof,
        RelaySeen::Renewed,
        RelaySeen::NotSure,
        RelaySeen::MarkRefused,
    ];
    holds(FLUSH, &seen);
}

#[test]
fn a_failover_that_loses_events_takes_their_proof_along() {
    let bounds = RelayBounds {
        verifications: 3,
        losses: 1,
        failovers: 1,
        loses: true,
        ..ONE
    };
    let seen = [
        RelaySeen::AdoptedAfterProof,
        RelaySeen::PlaceTwice,
        RelaySeen::Renewed,
    ];
    holds(bounds, &seen);
}

#[test]
fn an_old_primary_that_still_answers_proves_nothing() {
    let seen = [
        RelaySeen::DemotedRefused,
        RelaySeen::PublishedToDemoted,
        RelaySeen::Renewed,
        RelaySeen::NotSure,
    ];
    holds(SPLIT, &seen);
}

#[test]
fn an_old_primary_that_has_more_than_the_new_one_proves_nothing() {
    let bounds = RelayBounds {
        verifications: 2,
        loses: true,
        ..SPLIT
    };
    let seen = [RelaySeen::DemotedRefused, RelaySeen::PlaceTwice];
    holds(bounds, &seen);
}

#[test]
fn own_writes_are_relayed_as_well() {
    let bounds = RelayBounds { own: 1, ..ONE };
    holds(bounds, &[RelaySeen::OwnEcho, RelaySeen::Discarded]);
}

#[test]
fn a_round_that_marks_lanes_of_different_epochs_proves_nothing_of_what_is_older() {
    let bounds = RelayBounds {
        lanes: 2,
        beats: 1,
        flushes: 1,
        ..ONE
    };
    holds(bounds, &[RelaySeen::MarkedOfTwoEpochs, RelaySeen::Renewed]);
}

#[test]
fn a_commit_that_is_published_once_loads_see_it_is_not_missed() {
    let bounds = RelayBounds {
        waits_for_sight: true,
        own: 1,
        ..LATE
    };
    holds(bounds, &[RelaySeen::LateSight, RelaySeen::OwnEcho]);
}

#[test]
fn a_value_of_a_replica_is_kept_only_as_old_as_it_is() {
    let seen = [
        RelaySeen::KeptOfReplica,
        RelaySeen::OvertakenOfReplica,
        RelaySeen::UnknownOfReplica,
    ];
    holds(REPLICA, &seen);
}

#[test]
fn own_writes_keep_what_a_replica_has_not_yet_from_being_stored() {
    let bounds = RelayBounds {
        commits: 0,
        own: 1,
        loads: 1,
        rounds: 1,
        verifications: 2,
        ..REPLICA
    };
    holds(bounds, &[RelaySeen::OvertakenOfReplica]);
}

#[test]
fn a_value_of_a_replica_is_not_kept_across_epochs_longer_than_it_may() {
    let bounds = RelayBounds {
        loads: 1,
        rounds: 1,
        flushes: 1,
        ..REPLICA
    };
    holds(bounds, &[RelaySeen::OvertakenOfReplica, RelaySeen::Renewed]);
}

#[test]
fn without_the_moment_of_replicas_the_model_finds_a_stale_proof() {
    breaks(REPLICA, Some(Mechanism::MomentOfReplicas));
}

/// No mechanism of its own: 1: a commit is in the log; 2: it is published and applied; 3: a load does not see it yet.
#[test]
fn a_commit_that_is_published_before_loads_see_it_is_found() {
    breaks(LATE, None);
}

#[test]
fn without_numbers_before_the_end_the_model_finds_a_stale_proof() {
    breaks(ONE, Some(Mechanism::NumbersBeforeTheEnd));
}

#[test]
fn without_marks_after_publishing_the_model_finds_a_stale_proof() {
    breaks(ONE, Some(Mechanism::MarksAfterPublishing));
}

#[test]
fn without_marks_after_applying_the_model_finds_a_stale_proof() {
    breaks(ONE, Some(Mechanism::MarksAfterApplying));
}

#[test]
fn without_marks_of_one_epoch_the_model_finds_a_stale_proof() {
    breaks(FLUSH, Some(Mechanism::MarksOfOneEpoch));
}

#[test]
fn without_lanes_renewed_the_model_finds_a_stale_proof() {
    breaks(SPLIT, Some(Mechanism::LanesRenewed));
}

#[test]
fn without_still_the_primary_the_model_finds_a_stale_proof() {
    breaks(SPLIT, Some(Mechanism::StillThePrimary));
}

#[test]
fn without_drops_after_opening_the_model_finds_a_stale_proof() {
    breaks(START, Some(Mechanism::DropsAfterOpening));
}

/// No mechanism of its own: what is committed between the drop and the opening is missed.
#[test]
fn a_drop_before_the_log_is_open_is_found() {
    let bounds = RelayBounds {
        drops_early: true,
        ..START
    };
    breaks(bounds, None);
}
