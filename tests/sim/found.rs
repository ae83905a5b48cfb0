//! What the simulator has found: each bug as the schedule that showed it, shrunk.

use crate::schedule::{LinkFault::*, NodeSettings, What::*};
use crate::shrink::violation;
use crate::without::schedule;

/// Seed 363. A fence forgot that the subscription had not delivered: where the journal could not
/// stand in for it, a dead subscription was never renewed, and every write was seen late.
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
