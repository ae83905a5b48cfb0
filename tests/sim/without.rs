//! Every mechanism of the protocol is taken out in turn, and the judge must see that it is missing.
//!
//! The schedules are written by hand, as short as they can be: a test that searched for a seed would
//! only be slower. Most of them were found by seeds first (`SIM_WITHOUT`, see `one_seed`). Instance 0
//! writes and instance 1 reads; both verify every 100 ms and promise 300 ms.

use unstale::internals::Mechanism;

use crate::options::CacheOptions;
use crate::schedule::{
    Commit, How,
    LinkFault::*,
    NodeSettings, Schedule,
    ServerFault::*,
    Step,
    What::{self, *},
};
use crate::shrink::violation;

/// The same schedule keeps every promise with the mechanism, and without it the judge says `broken`.
fn sees(mechanism: Mechanism, broken: &str, steps: &[(u64, What)]) {
    sees_in(mechanism, broken, schedule(steps));
}

/// As [`sees`], of instances and caches that are set up in another way.
pub(crate) fn sees_in(mechanism: Mechanism, broken: &str, mut schedule: Schedule) {
    assert_eq!(violation(&schedule), None, "with {mechanism:?}");
    schedule.without = Some(mechanism);
    let found = violation(&schedule);
    assert!(
        found.as_ref().is_some_and(|why| why.contains(broken)),
        "without {mechanism:?}: {found:?}"
    );
}

pub(crate) fn schedule(steps: &[(u64, What)]) -> Schedule {
    Schedule {
        seed: 1,
        lanes: 1,
        pause: 0,
        relay: None,
        nodes: vec![NodeSettings::default(); 2],
        rows: CacheOptions::default(),
        columns: CacheOptions::default(),
        without: None,
        steps: steps
            .iter()
            .map(|(at, what)| Step {
                at: *at,
                what: *what,
            })
            .collect(),
    }
}

pub(crate) const fn read(key: u64) -> What {
    Read {
        node: 1,
        key,
        how: How::Lookup,
    }
}

pub(crate) const fn put(key: u64) -> What {
    Put {
        node: 0,
        key,
        publish_after: 0,
    }
}

pub(crate) const fn write(commit: Commit) -> What {
    Write {
        node: 0,
        key: 0,
        commit,
    }
}

/// Lands at a time and is answered at another.
pub(crate) const fn commit(lands: u64, answers: u64) -> Commit {
    Commit {
        lands: Some(lands),
        answers,
        fails: false,
        survives: true,
        patience: None,
    }
}

const fn writer(fault: crate::schedule::LinkFault) -> What {
    Fault { node: 0, fault }
}

pub(crate) const fn reader(fault: crate::schedule::LinkFault) -> What {
    Fault { node: 1, fault }
}

#[test]
fn without_token_at_insert_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::TokenAtInsert,
        "too old",
        &[
            (
                0,
                Loader {
                    before: 0,
                    after: 150,
                },
            ),
            (110, read(0)),
            (150, put(0)),
            (700, read(0)),
        ],
    );
}

/// The gap cannot be repaired while a load is in flight that has read the old row.
#[test]
fn without_fence_of_loads_in_flight_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::FenceOfLoadsInFlight,
        "too old",
        &[
            (
                0,
                Loader {
                    before: 0,
                    after: 150,
                },
            ),
            (120, reader(Lose(1))),
            (130, read(0)),
            (140, put(0)),
            (141, Server(DropJournal)),
            (800, read(0)),
        ],
    );
}

/// Two keys: the event of the second hides that the first one's was lost.
#[test]
fn without_sequence_check_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::SequenceCheck,
        "too old",
        &[
            (110, read(0)),
            (150, reader(Lose(1))),
            (160, put(0)),
            (170, put(1)),
            (700, read(0)),
        ],
    );
}

#[test]
fn without_verification_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::Verification,
        "too old",
        &[
            (110, read(0)),
            (150, reader(Lose(1))),
            (160, put(0)),
            (700, read(0)),
        ],
    );
}

/// The promoted replica hands the number of the lost event out again.
#[test]
fn without_epochs_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::Epochs,
        "too old",
        &[
            (110, read(0)),
            (210, reader(Lose(1))),
            (215, put(0)),
            (220, Server(FailOver { losing: 1 })),
            (225, put(1)),
            (800, read(0)),
        ],
    );
}

/// The writer has seen its event confirmed and does not send it again.
#[test]
fn without_fence_after_adoption_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::FenceAfterAdoption,
        "too old",
        &[
            (110, read(0)),
            (210, reader(Cut)),
            (215, put(0)),
            (450, Server(Restart { losing: 0 })),
            (500, reader(Heal)),
            (900, read(0)),
        ],
    );
}

#[test]
fn without_order_of_resubscription_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::OrderOfResubscription,
        "too old",
        &[
            (110, read(0)),
            (210, reader(Cut)),
            (215, put(0)),
            (310, reader(Heal)),
            (800, read(0)),
        ],
    );
}

#[test]
fn without_publish_after_commit_the_simulator_sees_a_writers_row_served() {
    sees(
        Mechanism::PublishAfterCommit,
        "a write's bound",
        &[(110, read(0)), (210, write(commit(0, 0))), (900, read(0))],
    );
}

#[test]
fn without_intent_recovery_the_simulator_sees_a_dead_writers_row_served() {
    sees(
        Mechanism::IntentRecovery,
        "a write's bound",
        &[
            (110, read(0)),
            (210, write(commit(10, 500))),
            (300, Crash { node: 0 }),
            (1_400, read(0)),
        ],
    );
}

/// Recording the intent takes so long that the writer is buried between the record and the commit:
/// its peers have finished the write before it happened.
#[test]
fn without_writers_gate_the_simulator_sees_a_buried_writers_row_served() {
    sees(
        Mechanism::WritersGate,
        "a write's bound",
        &[
            (150, writer(Slow(0, 490))),
            (195, write(commit(235, 235))),
            (687, writer(Cut)),
            (910, read(0)),
            (2_200, read(0)),
            (2_300, read(0)),
        ],
    );
}

/// The client learns that its commit failed, and 700 ms later the database commits.
#[test]
fn without_publish_at_deadline_the_simulator_sees_a_late_commits_row_served() {
    let late = Commit {
        fails: true,
        ..commit(700, 10)
    };
    sees(
        Mechanism::PublishAtDeadline,
        "a write's bound",
        &[(210, write(late)), (500, read(0)), (3_000, read(0))],
    );
}

/// An event goes to a primary that has been replaced, after all other instances have followed the new one.
#[test]
fn without_republishing_the_simulator_sees_a_fleet_that_does_not_converge() {
    sees(
        Mechanism::Republishing,
        "in the end",
        &[
            (
                210,
                Server(Split {
                    losing: 0,
                    isolated: 1,
                }),
            ),
            (230, read(5)),
            (250, put(5)),
            (900, read(5)),
        ],
    );
}

#[test]
fn without_collapse_the_simulator_sees_an_acknowledgement_of_nothing() {
    sees(
        Mechanism::Collapse,
        "acknowledged without an event",
        &[
            (110, read(0)),
            (200, writer(PausePublish)),
            (205, put(5)),
            (210, put(0)),
            (
                220,
                Flood {
                    node: 0,
                    keys: 1_100,
                },
            ),
            (400, writer(ResumePublish)),
            (900, read(0)),
        ],
    );
}

#[test]
fn without_still_the_primary_the_simulator_sees_a_stale_read() {
    sees(
        Mechanism::StillThePrimary,
        "too old",
        &[
            (110, read(0)),
            (
                250,
                Server(Split {
                    losing: 0,
                    isolated: 2,
                }),
            ),
            (260, put(0)),
            (700, read(0)),
        ],
    );
}

#[test]
fn without_applied_before_lookup_the_simulator_sees_a_read_before_its_token() {
    let after = Read {
        node: 1,
        key: 0,
        how: How::After,
    };
    sees(
        Mechanism::AppliedBeforeLookup,
        "older than its token",
        &[
            (110, read(0)),
            (150, reader(Delay(50))),
            (160, put(0)),
            (170, after),
        ],
    );
}

/// A mechanism by its name, to search for seeds that show that it is needed.
pub(crate) fn named(name: &str) -> Mechanism {
    use Mechanism::*;
    let all = [
        TokenAtInsert,
        FenceOfLoadsInFlight,
        SequenceCheck,
        Verification,
        Epochs,
        FenceAfterAdoption,
        OrderOfResubscription,
        PublishAfterCommit,
        IntentRecovery,
        WritersGate,
        PublishAtDeadline,
        Republishing,
        Collapse,
        StillThePrimary,
        SharedRecord,
        OwnEchoes,
        SecondLookOutsideTheLock,
        ForeignEchoes,
        BackwardPositions,
        AgreedLanes,
        StandInToken,
        AnnouncementAfterAdoption,
        ContainedPanics,
        DropsOutsideLocks,
        VerificationPace,
        AppliedBeforeLookup,
        ServerClockSteps,
    ];
    let found = all.into_iter().find(|one| format!("{one:?}") == name);
    found.expect("a mechanism")
}
