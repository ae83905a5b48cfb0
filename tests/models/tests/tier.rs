//! The shared tier: within these limits nothing breaks the promise, and each of its rules is needed.

use std::time::{Duration, Instant};

use unstale_models::{Cut, Limits, Tier, check_tier};

/// For a machine that does ten other things; each of these takes seconds on an idle one.
const LIMIT: Duration = Duration::from_secs(240);

const TWO_WRITES: Limits = Limits {
    writes: 2,
    failovers: 0,
    flushes: 0,
    others: 0,
    bypasses: 0,
    steps: Some(15),
};

const FAILOVER: Limits = Limits {
    writes: 1,
    failovers: 1,
    others: 1,
    ..TWO_WRITES
};

const BYPASS: Limits = Limits {
    writes: 1,
    others: 1,
    bypasses: 1,
    ..TWO_WRITES
};

fn holds(limits: Limits) {
    let begun = Instant::now();
    let without = None;
    let outcome = check_tier(Tier { limits, without }, LIMIT);
    assert!(outcome.broken.is_none(), "{outcome:?}");
    assert!(outcome.found, "nothing is ever found there: {outcome:?}");
    assert!(begun.elapsed() < LIMIT, "not all states: {outcome:?}");
}

fn breaks(limits: Limits, cut: Cut) {
    let without = Some(cut);
    // The shortest way is found first, however long it is.
    let limits = Limits {
        steps: None,
        ..limits
    };
    let outcome = check_tier(Tier { limits, without }, LIMIT);
    let (promise, steps) = outcome.broken.expect("a stale read");
    assert!(!promise.is_empty() && steps.len() < 30, "{steps:?}");
}

#[test]
fn values_of_redis_under_two_writes_are_never_stale() {
    holds(TWO_WRITES);
}

#[test]
fn values_of_redis_over_a_failover_that_lost_its_tail_are_never_stale() {
    holds(FAILOVER);
}

#[test]
fn values_of_redis_over_a_flush_are_never_stale() {
    holds(Limits {
        flushes: 1,
        ..TWO_WRITES
    });
}

#[test]
fn values_of_redis_with_an_event_past_their_record_are_never_stale() {
    holds(BYPASS);
}

#[test]
fn without_the_record_the_model_finds_a_stale_read() {
    breaks(TWO_WRITES, Cut::Record);
}

#[test]
fn without_own_echoes_the_model_finds_a_stale_read() {
    breaks(TWO_WRITES, Cut::OwnEcho);
}

#[test]
fn without_the_token_the_model_finds_a_stale_read() {
    breaks(TWO_WRITES, Cut::Token);
}

#[test]
fn without_a_check_of_stores_the_model_finds_a_stale_read() {
    breaks(TWO_WRITES, Cut::CheckedStore);
}

#[test]
fn without_a_look_for_holes_the_model_finds_a_stale_read() {
    breaks(BYPASS, Cut::Hole);
}

#[test]
fn without_a_verified_server_the_model_finds_a_stale_read() {
    breaks(FAILOVER, Cut::Sound);
}
