//! Holes that were found by attack: the simulator sees each of them where its fix is taken out.
//!
//! The schedules are written by hand, as those in `without`. Instance 0 writes and instance 1 reads.

use unstale::internals::Mechanism;

use crate::mind::{Act, Spot};
use crate::schedule::{LinkFault::*, Schedule, ServerFault::*, Step, What::*};
use crate::without::{commit, put, read, reader, schedule, sees_in, write};

/// Hole 1. A second look under the lock of the flights finds an entry that is due, and asks for a
/// reload, which takes the same lock.
fn a_second_look_that_is_due() -> Schedule {
    let mut schedule = schedule(&[
        (110, read(1)),
        (200, reader(Silence)),
        // The lane is no longer verified: this waits for it, on account of row 1.
        (1_000, ReadMany { node: 1 }),
        // Row 0 is stored meanwhile, and due when the wait is over.
        (1_020, read(0)),
        (1_400, reader(EndAll)),
    ]);
    schedule.rows.ttl = Some(1_000);
    schedule.rows.refresh_ahead = Some(10);
    schedule
}

#[test]
fn without_second_look_outside_the_lock_the_simulator_sees_a_thread_that_hangs() {
    // Where assertions are on, the lock notices that its own thread holds it.
    let broken = if cfg!(debug_assertions) {
        "panicked"
    } else {
        "hangs"
    };
    sees_in(
        Mechanism::SecondLookOutsideTheLock,
        broken,
        a_second_look_that_is_due(),
    );
}

/// Hole 2. Each takes the other's events for its own echoes.
fn two_instances_with_one_id() -> Schedule {
    let mut schedule = schedule(&[(110, read(0)), (150, put(0)), (700, read(0))]);
    for node in &mut schedule.nodes {
        node.id = Some(77);
    }
    schedule
}

#[test]
fn without_foreign_echoes_the_simulator_sees_clones_that_do_not_hear_each_other() {
    sees_in(
        Mechanism::ForeignEchoes,
        "too old",
        two_instances_with_one_id(),
    );
}

/// Hole 3. The next events have numbers that all have applied already. Without a journal the server
/// cannot tell that they are taken.
fn a_counter_that_steps_back() -> Schedule {
    let mut schedule = schedule(&[
        (110, read(0)),
        (150, put(5)),
        (151, put(5)),
        (152, put(5)),
        // The writer has seen them confirmed by now, and does not send them again.
        (1_200, Server(SetBack { events: 2 })),
        (1_310, put(0)),
        (1_800, read(0)),
    ]);
    for node in &mut schedule.nodes {
        node.journal = 0;
    }
    schedule
}

#[test]
fn without_backward_positions_the_simulator_sees_a_stale_read() {
    sees_in(
        Mechanism::BackwardPositions,
        "too old",
        a_counter_that_steps_back(),
    );
}

/// As before, with all that the server holds: an operator restores a copy into the running server.
fn an_older_state_that_is_restored() -> Schedule {
    schedule(&[
        (100, Server(Copy)),
        (110, read(0)),
        (150, put(5)),
        (151, put(5)),
        (152, put(5)),
        (1_200, Server(Restore)),
        (1_310, put(0)),
        (1_800, read(0)),
    ])
}

#[test]
fn without_backward_positions_the_simulator_sees_a_stale_read_after_a_restore() {
    sees_in(
        Mechanism::BackwardPositions,
        "too old",
        an_older_state_that_is_restored(),
    );
}

/// Hole 4. It starts while the server is silent, and finds lanes that no other instance has.
fn one_with_another_number_of_lanes() -> Schedule {
    let mut schedule = schedule(&[
        (100, StartSilent { node: 1, lasts: 50 }),
        // The fleet has one lane, whichever lanes these keys have for this instance.
        (2_500, ReadMany { node: 1 }),
        (2_600, put(0)),
        (2_600, put(1)),
        (2_600, put(2)),
        (2_600, put(3)),
        (3_200, ReadMany { node: 1 }),
    ]);
    schedule.nodes[1].lanes = Some(2);
    schedule.nodes[1].late = true;
    schedule
}

#[test]
fn without_agreed_lanes_the_simulator_sees_a_misfit_that_reads_what_is_stale() {
    sees_in(
        Mechanism::AgreedLanes,
        "too old",
        one_with_another_number_of_lanes(),
    );
}

/// Hole 4, the other way round: what it writes is published where no other instance listens.
fn one_that_writes_with_another_number_of_lanes() -> Schedule {
    let mut schedule = one_with_another_number_of_lanes();
    schedule.steps.truncate(1);
    for key in 0..4 {
        schedule.steps.push(Step {
            at: 2_600,
            what: Put {
                node: 1,
                key,
                publish_after: 0,
            },
        });
    }
    schedule
}

#[test]
fn without_agreed_lanes_the_simulator_sees_an_acknowledgement_that_reaches_no_instance() {
    sees_in(
        Mechanism::AgreedLanes,
        "acknowledged without an event",
        one_that_writes_with_another_number_of_lanes(),
    );
}

/// Hole 5. No place among the loads is free in time, so the old entry is served; before it is returned,
/// another thread replaces the row and reads it.
fn a_stale_fallback_against_an_invalidation() -> Schedule {
    let mut schedule = schedule(&[
        (110, read(0)),
        (
            300,
            Loader {
                before: 0,
                after: 1_000,
            },
        ),
        (390, read(1)),
        (391, read(2)),
        // Waits for its turn until 601.
        (401, read(0)),
        (595, AtLanding { node: 1 }),
        (700, read(3)),
    ]);
    schedule.rows.ttl = Some(200);
    schedule.rows.stale_if_error = Some(2_000);
    schedule.rows.max_loads = 1;
    schedule.rows.load_timeout = 200;
    schedule
}

#[test]
fn without_stand_in_token_the_simulator_sees_an_answer_older_than_the_own_invalidation() {
    sees_in(
        Mechanism::StandInToken,
        "its own",
        a_stale_fallback_against_an_invalidation(),
    );
}

/// A database that has become slow: an entry past its TTL answers, unless something else speaks against it.
fn a_slow_source_and_what_was_invalidated() -> Schedule {
    let mut schedule = schedule(&[
        (110, read(0)),
        (
            310,
            Loader {
                before: 1_000,
                after: 0,
            },
        ),
        (
            320,
            PutTag {
                node: 0,
                column: false,
                odd: false,
            },
        ),
        (800, read(0)),
        (1_500, Peek { node: 0 }),
    ]);
    schedule.rows.ttl = Some(200);
    schedule.rows.stale_if_error = Some(2_000);
    schedule.rows.stale_if_slow = Some(50);
    schedule
}

#[test]
fn without_stand_in_stamps_the_simulator_sees_what_was_invalidated_while_the_source_is_slow() {
    sees_in(
        Mechanism::StandInStamps,
        "too old",
        a_slow_source_and_what_was_invalidated(),
    );
}

/// Hole 6. The promoted replica has the member, and lacks the intent; the peers load the old row after
/// their fences; the row is committed, and its writer is gone.
fn an_intent_that_a_failover_loses() -> Schedule {
    schedule(&[
        (110, read(0)),
        (210, write(commit(500, 900))),
        (250, Server(FailOverWithoutIntents { losing: 0 })),
        (500, read(0)),
        (720, Crash { node: 0 }),
        // The commit came late enough for its writer to be taken for dead: its deadline counts.
        (3_300, read(0)),
    ])
}

#[test]
fn without_announcement_after_adoption_the_simulator_sees_a_dead_writers_row_served() {
    sees_in(
        Mechanism::AnnouncementAfterAdoption,
        "a write's bound",
        an_intent_that_a_failover_loses(),
    );
}

/// Hole 7. A peer's event drops a value that panics in the task that follows the bus.
fn a_value_that_panics_at_its_end() -> Schedule {
    schedule(&[
        (110, read(0)),
        (
            150,
            Arm {
                node: 1,
                spot: Spot::ValueDrop,
                act: Act::Panic,
            },
        ),
        (200, put(0)),
        (300, read(1)),
    ])
}

#[test]
fn without_contained_panics_the_simulator_sees_an_instance_that_stays_deaf() {
    sees_in(
        Mechanism::ContainedPanics,
        "not pushed",
        a_value_that_panics_at_its_end(),
    );
}

/// Hole 7. A value that makes room for another looks into its cache.
fn a_value_that_looks_at_its_cache_when_it_is_evicted() -> Schedule {
    let mut schedule = schedule(&[
        (110, read(0)),
        (120, read(1)),
        // Armed this late, it is none of the values that quick_cache makes in between.
        (
            130,
            Arm {
                node: 1,
                spot: Spot::ValueDrop,
                act: Act::Peek,
            },
        ),
        (140, read(2)),
        (200, read(3)),
    ]);
    schedule.rows.capacity = 2;
    schedule
}

#[test]
fn without_drops_outside_locks_the_simulator_sees_a_thread_that_hangs() {
    sees_in(
        Mechanism::DropsOutsideLocks,
        "hangs",
        a_value_that_looks_at_its_cache_when_it_is_evicted(),
    );
}

/// Hole 8. The entry cannot be proven fresh, and every read asks for a verification.
fn a_server_that_refuses_at_once() -> Schedule {
    schedule(&[
        (110, read(0)),
        (200, reader(Refuse)),
        (
            520,
            ReadOften {
                node: 1,
                key: 0,
                reads: 240,
            },
        ),
        (1_000, reader(EndAll)),
    ])
}

#[test]
fn without_verification_pace_the_simulator_sees_a_failing_server_that_is_asked_by_every_read() {
    sees_in(
        Mechanism::VerificationPace,
        "too many verifications",
        a_server_that_refuses_at_once(),
    );
}

/// Hole 9. The dead writer's last beat lies in the future.
fn a_clock_that_steps_back() -> Schedule {
    schedule(&[
        (110, read(0)),
        (210, write(commit(10, 500))),
        (300, Crash { node: 0 }),
        (310, Server(StepClock { ms: -5_000 })),
        (1_900, read(0)),
    ])
}

#[test]
fn without_server_clock_steps_the_simulator_sees_a_dead_writers_row_served() {
    sees_in(
        Mechanism::ServerClockSteps,
        "a write's bound",
        a_clock_that_steps_back(),
    );
}

/// Hole 26. An invalidation is recorded in the shared tier; the counter steps back below it; the next
/// verification begins the record again there, and has forgotten it: the value that it ended counts.
#[cfg(feature = "shared")]
#[test]
fn a_counter_that_steps_back_brings_no_value_of_the_tier_back() {
    let mut schedule = schedule(&[
        (110, read(0)),
        (150, Server(Copy)),
        (160, put(0)),
        (250, Server(Restore)),
        (900, read(0)),
    ]);
    schedule.rows.tier = true;
    assert_eq!(crate::shrink::violation(&schedule), None);
}

/// Hole 28. Seed 7002. One instance hears nothing while the counter steps back and comes up to where it
/// has applied the lane: its next verification finds the position that it expects.
#[test]
fn a_counter_that_catches_up_is_another_life_for_an_instance_that_was_away() {
    let mut schedule = schedule(&[
        (50, put(5)),
        (60, put(5)),
        (110, read(0)),
        (210, reader(Silence)),
        (250, Server(SetBack { events: 2 })),
        (600, put(5)),
        (610, put(0)),
        (900, reader(EndAll)),
        (1_600, read(0)),
    ]);
    for node in &mut schedule.nodes {
        node.journal = 0;
    }
    assert_eq!(crate::shrink::violation(&schedule), None);
}

/// Hole 27. A value that panics at its end, where a commit drops it: the event of that commit is lost
/// and its write stays open, although its instance lives.
#[test]
fn without_contained_panics_the_simulator_sees_a_write_that_stays_open() {
    let mut schedule = schedule(&[
        (110, read(1)),
        (210, write(commit(100, 100))),
        (
            300,
            Arm {
                node: 0,
                spot: Spot::ValueDrop,
                act: Act::Panic,
            },
        ),
        (700, read(0)),
    ]);
    schedule.steps.insert(
        0,
        Step {
            at: 110,
            what: Read {
                node: 0,
                key: 0,
                how: crate::schedule::How::Lookup,
            },
        },
    );
    sees_in(Mechanism::ContainedPanics, "open_writes: 1", schedule);
}
