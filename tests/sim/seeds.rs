//! Ten thousand schedules, and one by its seed.

use std::collections::BTreeMap;

use unstale::testing::Without;

use crate::generate::schedule;
use crate::judge::{Verdict, judge};
use crate::run::run;
use crate::shrink::shrink;

/// Schedules of each of the four tests, which run side by side.
const SEEDS: u64 = 2_500;

/// Every so many seeds one is run twice, and must go alike.
const TWICE: u64 = 50;

#[expect(clippy::panic, reason = "says all that is to be known of the failure")]
fn check(seed: u64, totals: &mut BTreeMap<&'static str, u64>) -> u64 {
    let schedule = schedule(seed);
    let ran = run(&schedule);
    let Verdict {
        violations,
        stale,
        trace,
    } = judge(&ran);
    for (name, count) in ran.log.totals.iter().map(|(name, count)| (*name, *count)) {
        *totals.entry(name).or_default() += count;
    }
    *totals.entry("stale").or_default() += stale;
    if let Some(first) = violations.first() {
        let small = shrink(&schedule);
        let why = judge(&run(&small)).violations;
        panic!(
            "{first}\n\nreplay: SIM_SEED={seed} cargo nextest run --all-features --no-capture \
             -E 'test(one_seed)'\n\nshrunk to {small}\n{why:#?}"
        );
    }
    trace
}

fn seeds(from: u64) {
    judge_all(from, SEEDS);
}

#[expect(clippy::print_stdout, reason = "what has happened in the schedules")]
fn judge_all(from: u64, count: u64) {
    let mut totals = BTreeMap::new();
    for seed in from..from + count {
        let trace = check(seed, &mut totals);
        if seed % TWICE == 0 {
            assert_eq!(
                trace,
                check(seed, &mut totals),
                "seed {seed} does not go alike twice"
            );
        }
    }
    for (name, count) in &totals {
        assert!(*count > 0, "no {name} in so many schedules: {totals:?}");
    }
    println!("{totals:?}");
}

#[test]
fn the_first_2500_seeds() {
    seeds(0);
}

#[test]
fn the_second_2500_seeds() {
    seeds(SEEDS);
}

#[test]
fn the_third_2500_seeds() {
    seeds(2 * SEEDS);
}

#[test]
fn the_fourth_2500_seeds() {
    seeds(3 * SEEDS);
}

#[cfg(feature = "shared")]
#[test]
fn five_hundred_seeds_with_the_shared_tier() {
    crate::fleet::TIER.set(true);
    judge_all(0, 500);
}

#[cfg(feature = "shared")]
#[test]
fn without_the_record_of_the_shared_tier_a_stale_read_is_found() {
    crate::fleet::TIER.set(true);
    let _without = Without::new(unstale::testing::Mechanism::SharedRecord);
    let stale = |seed: &u64| !judge(&run(&schedule(*seed))).violations.is_empty();
    assert!((0..200).any(|seed| stale(&seed)));
}

/// The schedule of `SIM_SEED`, 0 by default, and as many after it as `SIM_COUNT` says;
/// `SIM_WITHOUT` names a mechanism that is taken out, `SIM_TIER` turns the shared tier on.
#[test]
#[expect(clippy::print_stdout, reason = "for whoever replays a seed")]
fn one_seed() {
    let seed = std::env::var("SIM_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let without = std::env::var("SIM_WITHOUT").ok();
    let _without = without.map(|name| Without::new(crate::without::named(&name)));
    #[cfg(feature = "shared")]
    crate::fleet::TIER.set(std::env::var_os("SIM_TIER").is_some());
    println!("{}", schedule(seed));
    let count = std::env::var("SIM_COUNT").map_or(1, |count| count.parse().expect("a number"));
    let mut totals = BTreeMap::new();
    for seed in seed..seed + count {
        check(seed, &mut totals);
    }
    println!("{totals:?}");
}
