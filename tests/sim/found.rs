//! What the simulator has found: each bug as the schedule that showed it, shrunk.

use crate::schedule::{How, LinkFault::*, NodeSettings, What::*};
use crate::shrink::violation;
use crate::without::schedule;

/// Seed 363. A fence forgot that the subscription had not delivered: where the journal could not
/// replace it, a dead subscription was never renewed, and every write was seen late.
#[test]
fn a_dead_subscription_is_renewed_where_every_gap_ends_in_a_fence() {
    let mut schedule = schedule(&[(
        500,
        Fault {
            node: 1,
            fault: Unsubscribe,
        },
    )]);
    schedule.nodes = vec![
        NodeSettings {
            journal: 0,
            ..NodeSettings::default()
        };
        2
    ];
    assert_eq!(violation(&schedule), None);
}

/// Seed 4737. A load began while its lane was verified and ran for longer than the bound; a read
/// that joined it late, deaf to an invalidation meanwhile, was answered with what it had read.
#[test]
fn a_read_is_not_answered_by_a_load_older_than_the_promise() {
    let deaf = |fault| Fault { node: 1, fault };
    let row = |node| Read {
        node,
        key: 1,
        how: How::Lookup,
    };
    let mut schedule = schedule(&[
        (
            0,
            Loader {
                before: 0,
                after: 600,
            },
        ),
        (155, deaf(Deafen)),
        (252, deaf(LoseReplies)),
        (260, row(1)),
        (
            461,
            Put {
                node: 0,
                key: 1,
                publish_after: 0,
            },
        ),
        (666, row(1)),
    ]);
    schedule.nodes[1].verify_interval = 50;
    schedule.nodes[1].max_staleness = 150;
    assert_eq!(violation(&schedule), None);
}

/// Seed 6230. As before, but the lane was verified again while the load ran: that proves fresh what the
/// cache holds, not for what a load has read long ago.
#[test]
fn a_verification_proves_nothing_of_a_load_that_began_before_it() {
    let row = |node| Read {
        node,
        key: 3,
        how: How::Lookup,
    };
    let mut schedule = schedule(&[
        (
            0,
            Loader {
                before: 30,
                after: 600,
            },
        ),
        (732, row(1)),
        (
            848,
            Fault {
                node: 1,
                fault: Silence,
            },
        ),
        (
            972,
            PutAll {
                node: 0,
                column: false,
            },
        ),
        (1_222, row(1)),
    ]);
    schedule.lanes = 2;
    schedule.nodes[0].verify_interval = 50;
    schedule.nodes[1].verify_interval = 50;
    schedule.nodes[1].max_staleness = 100;
    assert_eq!(violation(&schedule), None);
}
