use proptest::prelude::*;

use super::*;
use crate::bus::{Journal, SubscriptionRepair};

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn adopted(sequence: u64) -> Follower {
    let mut follower = Follower::default();
    assert_eq!(
        follower.learn(1, 10, at(1, sequence)),
        Learned::Adopted { first: true }
    );
    follower
}

fn journal(head: Position, events: impl IntoIterator<Item = u64>) -> Journal {
    Journal {
        head,
        events: events.into_iter().map(|n| (n, Bytes::new())).collect(),
    }
}

#[test]
fn nothing_is_applied_before_the_first_verification() {
    let mut follower = Follower::default();
    assert_eq!(follower.hear(at(1, 5), 0), Heard::NotAdopted);
    assert_eq!(follower.proven(), None);
    assert_eq!(follower.repair(9), None);
    assert!(follower.behind());
}

#[test]
fn a_repeated_event_is_a_duplicate_and_a_hole_is_a_gap() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(1, 6), 1), Heard::Next);
    assert_eq!(follower.hear(at(1, 6), 1), Heard::Duplicate);
    assert_eq!(follower.hear(at(1, 3), 1), Heard::Duplicate);
    assert_eq!(follower.hear(at(1, 8), 1), Heard::Gap);
    let repair = follower.repair(8).expect("needed");
    assert_eq!(repair.after, 6);
    assert_eq!(follower.repair(9), None, "one at a time");
    let repaired = follower.on_journal(repair.number, journal(at(1, 9), 7..=9), 1);
    assert!(matches!(repaired, Repaired::Events { done: true, .. }));
    assert_eq!(follower.hear(at(1, 9), 1), Heard::Duplicate);
    assert_eq!(follower.hear(at(1, 10), 1), Heard::Next);
}

#[test]
fn a_payload_that_does_not_decode_takes_no_events_place() {
    let mut follower = adopted(5);
    for sequence in [6, 7, 900] {
        assert_eq!(follower.hear_nonsense(at(1, sequence), 1), Heard::Gap);
    }
    assert_eq!(follower.hear_nonsense(at(1, 5), 1), Heard::Duplicate);
    assert_eq!(follower.hear(at(1, 6), 1), Heard::Next);
    // Nor does it count as a sign of life of the subscription.
    assert_eq!(follower.learn(2, 20, at(1, 7)), Learned::Behind);
    let repair = follower.repair_silence().expect("needed");
    assert_eq!(follower.hear_nonsense(at(1, 900), 2), Heard::Gap);
    follower.on_journal(repair.number, journal(at(1, 7), [7]), 2);
    assert_eq!(
        follower.repair_needed(),
        Some(SubscriptionRepair::Resubscribe)
    );
    assert_eq!(follower.hear_nonsense(at(2, 1), 2), Heard::OtherEpoch);
}

#[test]
fn a_head_below_what_was_applied_when_it_was_asked_for_is_another_life() {
    let mut follower = adopted(5);
    follower.ask(2);
    assert_eq!(follower.hear(at(1, 6), 2), Heard::Next);
    // 5 is no step back: 6 came after the question.
    assert_eq!(follower.learn(2, 20, at(1, 5)), Learned::Current);
    follower.ask(3);
    assert_eq!(
        follower.learn(3, 30, at(1, 4)),
        Learned::Adopted { first: false }
    );
    assert_eq!(follower.applied(), Some(at(1, 4)));
    assert_eq!(follower.hear(at(1, 5), 3), Heard::Next);
}

/// On a busy lane no round is without a message of the new epoch before its answer.
#[test]
fn a_lane_is_adopted_however_many_messages_of_its_new_life_arrive_meanwhile() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(2, 100), 2), Heard::OtherEpoch);
    assert_eq!(follower.learn(2, 20, at(2, 100)), Learned::Outdated);
    assert_eq!(follower.hear(at(2, 101), 3), Heard::OtherEpoch);
    assert_eq!(
        follower.learn(3, 30, at(2, 101)),
        Learned::Adopted { first: false }
    );
    // A third life is another doubt.
    assert_eq!(follower.hear(at(3, 7), 4), Heard::OtherEpoch);
    assert_eq!(follower.hear(at(4, 8), 5), Heard::OtherEpoch);
    assert_eq!(follower.learn(5, 50, at(4, 8)), Learned::Outdated);
}

#[test]
fn a_message_that_claims_a_place_far_ahead_hides_no_deaf_subscription() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(1, u64::MAX - 1), 1), Heard::Gap);
    assert_eq!(follower.learn(2, 20, at(1, 7)), Learned::Behind);
    let repair = follower.repair_silence().expect("needed");
    follower.on_journal(repair.number, journal(at(1, 7), [6, 7]), 2);
    assert_eq!(
        follower.repair_needed(),
        Some(SubscriptionRepair::Resubscribe)
    );
}

#[test]
fn a_place_that_is_taken_twice_is_settled_by_a_later_verification_only() {
    let mut follower = adopted(5);
    follower.distrust(2);
    assert!(follower.behind());
    assert_eq!(follower.learn(2, 20, at(1, 9)), Learned::Outdated);
    assert_eq!(
        follower.learn(3, 30, at(1, 9)),
        Learned::Adopted { first: false }
    );
}

#[test]
fn a_verification_counts_only_once_its_head_is_applied() {
    let mut follower = adopted(5);
    assert_eq!(follower.learn(2, 20, at(1, 5)), Learned::Current);
    assert_eq!(follower.proven(), Some(20));
    assert_eq!(follower.learn(3, 30, at(1, 7)), Learned::Behind);
    assert_eq!(follower.hear(at(1, 6), 3), Heard::Next);
    assert_eq!(follower.proven(), None);
    assert_eq!(follower.hear(at(1, 7), 3), Heard::Next);
    assert_eq!(follower.proven(), Some(30));
    assert!(!follower.behind());
}

#[test]
fn a_journal_with_a_hole_a_short_one_or_another_epoch_never_counts() {
    for (events, fences) in [
        (journal(at(1, 9), [7, 8, 9]), true), // 6 is gone
        (journal(at(1, 9), [6, 8, 9]), true), // 7 is gone
        (journal(at(1, 9), []), true),        // deleted
        (journal(at(1, 7), [6, 7]), true),    // the target was never published
        (journal(at(2, 9), [6, 7, 8, 9]), false),
    ] {
        let mut follower = adopted(5);
        assert_eq!(follower.learn(2, 20, at(1, 9)), Learned::Behind);
        let repair = follower.repair_silence().expect("needed");
        match follower.on_journal(repair.number, events, 2) {
            Repaired::Fence => assert!(fences),
            Repaired::OtherEpoch => assert!(!fences),
            other => unreachable!("{other:?}"),
        }
        assert_eq!(follower.proven(), None, "only a later verification counts");
    }
}

#[test]
fn pages_are_read_until_the_target() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(1, 12), 1), Heard::Gap);
    let repair = follower.repair(12).expect("needed");
    let page = follower.on_journal(repair.number, journal(at(1, 12), 6..=9), 1);
    assert!(matches!(page, Repaired::Events { done: false, .. }));
    let rest = follower.repair(12).expect("needed");
    assert_eq!(rest.after, 9);
    let page = follower.on_journal(rest.number, journal(at(1, 12), 10..=12), 1);
    assert!(matches!(page, Repaired::Events { done: true, .. }));
}

/// 1: a verification is sent; 2: the server begins another epoch; 3: a message of the new epoch
/// arrives; 4: the verification's reply, of the old epoch, arrives. It must settle nothing.
#[test]
fn a_verification_sent_before_a_gap_does_not_settle_it() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(2, 6), 2), Heard::OtherEpoch);
    assert_eq!(follower.learn(2, 20, at(1, 5)), Learned::Outdated);
    assert_eq!(follower.proven(), None);
    assert_eq!(
        follower.learn(3, 30, at(2, 6)),
        Learned::Adopted { first: false }
    );
    assert_eq!(follower.hear(at(2, 7), 3), Heard::Next);
    assert_eq!(
        follower.hear(at(1, 8), 3),
        Heard::OtherEpoch,
        "late, from the old life"
    );
}

#[test]
fn an_adoption_makes_a_repair_under_way_obsolete() {
    let mut follower = adopted(5);
    assert_eq!(follower.hear(at(1, 9), 1), Heard::Gap);
    let repair = follower.repair(9).expect("needed");
    assert_eq!(
        follower.learn(2, 20, at(2, 3)),
        Learned::Adopted { first: false }
    );
    let late = follower.on_journal(repair.number, journal(at(1, 9), 6..=9), 2);
    assert!(matches!(late, Repaired::Obsolete));
}

#[test]
fn a_subscription_that_stays_silent_is_renewed_then_reconnected() {
    let mut follower = adopted(5);
    let deaf_once = |follower: &mut Follower, round: u64| {
        let head = at(1, 5 + round);
        assert_eq!(follower.learn(round, round * 10, head), Learned::Behind);
        let repair = follower.repair_silence().expect("needed");
        let repaired = follower.on_journal(repair.number, journal(head, [5 + round]), round);
        assert!(matches!(repaired, Repaired::Events { done: true, .. }));
        follower.repair_needed()
    };
    assert_eq!(
        deaf_once(&mut follower, 1),
        Some(SubscriptionRepair::Resubscribe)
    );
    assert_eq!(
        deaf_once(&mut follower, 2),
        Some(SubscriptionRepair::Reconnect)
    );
    // The next event arrives by itself: all is well again.
    assert_eq!(follower.learn(3, 30, at(1, 8)), Learned::Behind);
    let repair = follower.repair_silence().expect("needed");
    follower.on_journal(repair.number, journal(at(1, 8), [8]), 3);
    assert_eq!(follower.hear(at(1, 8), 3), Heard::Duplicate);
    assert_eq!(follower.repair_needed(), None);
    assert_eq!(
        deaf_once(&mut follower, 4),
        Some(SubscriptionRepair::Resubscribe)
    );
}

#[test]
fn a_silent_subscription_is_renewed_though_the_journal_is_too_short() {
    let mut follower = adopted(5);
    assert_eq!(follower.learn(2, 20, at(1, 8)), Learned::Behind);
    let repair = follower.repair_silence().expect("needed");
    let repaired = follower.on_journal(repair.number, journal(at(1, 8), []), 2);
    assert!(matches!(repaired, Repaired::Fence));
    assert_eq!(
        follower.repair_needed(),
        Some(SubscriptionRepair::Resubscribe)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Deliver(usize),
    Verify,
    Repair,
    NewEpoch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => Just(Step::Publish),
            6 => (0..64_usize).prop_map(Step::Deliver),
            3 => Just(Step::Verify),
            2 => Just(Step::Repair),
            1 => Just(Step::NewEpoch),
        ],
        0..200,
    )
}

proptest! {
    /// Against a reference: whatever is lost, repeated or reordered, a time is proven only if
    /// every event of the present epoch published before it was applied or fenced off.
    #[test]
    fn a_follower_never_proves_an_event_that_was_not_applied(steps in steps()) {
        let mut follower = Follower::default();
        let (mut epoch, mut sequence, mut round) = (1_u64, 0_u64, 0_u64);
        // Every event ever, with the time it was published, and which of them count as seen.
        let mut log: Vec<(Position, u64, bool)> = Vec::new();
        for (now, step) in (1_u64..).zip(steps) {
            match step {
                Step::Publish => {
                    sequence += 1;
                    log.push((at(epoch, sequence), now, false));
                }
                Step::Deliver(index) if !log.is_empty() => {
                    let index = index % log.len();
                    if follower.hear(log[index].0, round) == Heard::Next {
                        log[index].2 = true;
                    }
                }
                Step::Deliver(_) => {}
                Step::Verify => {
                    round += 1;
                    if let Learned::Adopted { .. } = follower.learn(round, now, at(epoch, sequence)) {
                        log.iter_mut().for_each(|event| event.2 = true);
                    }
                }
                Step::Repair => {
                    let Some(repair) = follower.repair(sequence) else { continue };
                    let present = log.iter().filter(|(position, ..)| {
                        position.epoch == epoch && position.sequence > repair.after
                    });
                    let page = journal(at(epoch, sequence), present.map(|(p, ..)| p.sequence));
                    match follower.on_journal(repair.number, page, round) {
                        Repaired::Events { events, .. } => for (got, _) in events {
                            log.iter_mut().filter(|e| e.0 == at(epoch, got)).for_each(|e| e.2 = true);
                        },
                        Repaired::Fence => log.iter_mut().for_each(|event| event.2 = true),
                        Repaired::Obsolete | Repaired::OtherEpoch => {}
                    }
                }
                Step::NewEpoch => {
                    epoch += 1;
                    sequence = sequence.saturating_sub(2); // numbers are handed out again
                }
            }
            if let Some(time) = follower.proven() {
                for (position, published, seen) in &log {
                    prop_assert!(*seen || *published >= time, "{position:?} of {published}, {time}");
                }
            }
        }
    }
}

#[test]
fn after_a_lost_connection_only_a_later_verification_proves_anything() {
    let mut follower = adopted(5);
    assert_eq!(follower.learn(2, 20, at(1, 6)), Learned::Behind);
    follower.disconnected(3);
    // Another event than the one that round 2 knew of, from a primary that never had it.
    assert_eq!(follower.hear(at(1, 6), 3), Heard::Next);
    assert_eq!(follower.proven(), None);
    assert_eq!(follower.learn(3, 30, at(1, 6)), Learned::Outdated);
    assert_eq!(follower.proven(), None);
    assert_eq!(follower.learn(4, 40, at(1, 6)), Learned::Current);
    assert_eq!(follower.proven(), Some(40));
}
