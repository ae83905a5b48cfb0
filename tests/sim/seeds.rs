//! Ten thousand schedules, and one by its seed.

use std::collections::BTreeMap;

use crate::generate::{Kind, is_asked_for, schedule, takes_place};
use crate::judge::{Verdict, judge};
use crate::run::run;
use crate::schedule::{Schedule, Step, What};
use crate::shrink::{shrink, violations};

/// Schedules of each of the four tests, which run side by side.
const SEEDS: u64 = 2_500;

/// One seed in this many is run twice, and both runs must be equal.
const TWICE: u64 = 50;

/// Runs it; a violation fails the test with the schedule, shrunk.
#[expect(clippy::panic, reason = "says all that is to be known of the failure")]
#[expect(clippy::print_stdout, reason = "shrinking takes its time")]
fn check(schedule: &Schedule, totals: &mut BTreeMap<&'static str, u64>) -> u64 {
    let first = match run(schedule) {
        Err(_) => "hangs: the thread never ends".to_string(),
        Ok(ran) => {
            let Verdict {
                violations,
                stale,
                trace,
            } = judge(&ran);
            for (name, count) in &ran.log.totals {
                *totals.entry(name).or_default() += count;
            }
            *totals.entry("stale").or_default() += stale;
            match violations.into_iter().next() {
                None => return trace,
                Some(first) => first,
            }
        }
    };
    let seed = schedule.seed;
    println!("seed {seed}: {first}");
    let small = shrink(schedule);
    panic!(
        "{first}\n\nreplay: SIM_SEED={seed} cargo nextest run --all-features --no-capture \
         -E 'test(one_seed)'\n\nof {schedule}\nshrunk to {small}\n{:#?}",
        violations(&small)
    );
}

fn seeds(from: u64) {
    judge_all(from, SEEDS, schedule);
}

#[expect(clippy::print_stdout, reason = "what has happened in the schedules")]
fn judge_all(from: u64, count: u64, of_seed: impl Fn(u64) -> Schedule) {
    let mut totals = expected();
    for seed in from..from + count {
        let mut schedule = of_seed(seed);
        check(&schedule, &mut totals);
        if seed % TWICE == 0 {
            // tokio wakes the callers that wait for one load in any order, and with a crowd that shows.
            let crowds = |step: &Step| {
                matches!(step.what, What::ReadOften { .. } | What::StartSilent { .. })
            };
            schedule.steps.retain(|step| !crowds(step));
            let trace = check(&schedule, &mut totals);
            assert_eq!(
                trace,
                check(&schedule, &mut totals),
                "seed {seed} does not go alike twice"
            );
        }
    }
    if !takes_place(Kind::Refresh) {
        totals.retain(|name, _| !name.contains("refresh"));
    }
    // In fewer schedules what is rare need not happen.
    let often = ["hits", "fences", "shared_found", "shared_waits"];
    let must = totals
        .iter()
        .filter(|(name, _)| count >= SEEDS || often.contains(name));
    for (name, times) in must {
        assert!(*times > 0, "no {name} in {count} schedules: {totals:?}");
    }
    println!("{totals:?}");
}

/// What must have happened in so many schedules; all that did is counted as well.
fn expected() -> BTreeMap<&'static str, u64> {
    let always = [
        "get",
        "lookup",
        "get_with",
        "latest",
        "after",
        "get_many",
        "read_often",
        "preload",
        "peek",
        "batch",
        "drop_intents",
        "user_panics",
        "user_peeks",
        "user_gets",
        "user_invalidates",
        "user_waits",
        "user_nests",
        "loader_hangs",
        "loads_panicked",
        "degraded_starts",
        "evictions",
        "stale_fallbacks",
        "limited",
        "overloaded",
        "audited",
    ];
    let by_kind: [(Kind, &[&str]); 7] = [
        (Kind::Refresh, &["refreshes"]),
        (Kind::SetBack, &["set_back"]),
        (Kind::Restore, &["restore"]),
        (Kind::AtLanding, &["at_landing"]),
        (Kind::LostIntents, &["fail_over_without_intents"]),
        (Kind::Refuse, &["refuse"]),
        (Kind::ClockSteps, &["step_clock"]),
    ];
    let mut totals: BTreeMap<_, _> = always.into_iter().map(|name| (name, 0)).collect();
    for (_, names) in by_kind.iter().filter(|(kind, _)| takes_place(*kind)) {
        totals.extend(names.iter().map(|name| (*name, 0)));
    }
    totals
}

#[test]
fn the_first_2500_seeds_keep_the_promise() {
    seeds(0);
}

#[test]
fn the_second_2500_seeds_keep_the_promise() {
    seeds(SEEDS);
}

#[test]
fn the_third_2500_seeds_keep_the_promise() {
    seeds(2 * SEEDS);
}

#[test]
fn the_fourth_2500_seeds_keep_the_promise() {
    seeds(3 * SEEDS);
}

/// The schedule of a seed, with the shared tier in both caches.
#[cfg(feature = "shared")]
fn with_the_tier(seed: u64) -> Schedule {
    let mut schedule = schedule(seed);
    for options in [&mut schedule.rows, &mut schedule.columns] {
        options.tier = true;
        options.claim = options.claim.or(Some(200));
    }
    schedule
}

#[cfg(feature = "shared")]
#[test]
fn five_hundred_seeds_with_the_shared_tier_keep_the_promise() {
    judge_all(0, 500, with_the_tier);
}

#[cfg(feature = "shared")]
#[test]
fn without_the_record_of_the_shared_tier_a_stale_read_is_found() {
    let stale = |seed: u64| {
        let mut schedule = with_the_tier(seed);
        schedule.without = Some(unstale::internals::Mechanism::SharedRecord);
        !violations(&schedule).is_empty()
    };
    assert!((0..200).any(stale));
}

/// The schedule of `SIM_SEED`, 0 by default, and as many after it as `SIM_COUNT` says;
/// `SIM_WITHOUT` names a mechanism that is taken out, `SIM_TIER` turns the shared tier on, `SIM_HOLES`
/// names kinds of faults that are left out else, and only schedules with one of them are run then.
#[test]
#[expect(clippy::print_stdout, reason = "for a developer who replays a seed")]
fn one_seed() {
    let number = |name: &str| std::env::var(name).map(|value| value.parse().expect("a number"));
    let seed: u64 = number("SIM_SEED").unwrap_or(0);
    let count: u64 = number("SIM_COUNT").unwrap_or(1);
    let without = std::env::var("SIM_WITHOUT").ok();
    let without = without.map(|name| crate::without::named(&name));
    let of_seed = |seed: u64| {
        #[cfg(feature = "shared")]
        let mut schedule = match std::env::var_os("SIM_TIER") {
            Some(_) => with_the_tier(seed),
            None => schedule(seed),
        };
        #[cfg(not(feature = "shared"))]
        let mut schedule = schedule(seed);
        schedule.without = without;
        schedule
    };
    println!("{}", of_seed(seed));
    let mut totals = BTreeMap::new();
    for seed in (seed..seed + count).filter(|seed| count == 1 || is_asked_for(*seed)) {
        check(&of_seed(seed), &mut totals);
    }
    println!("{totals:?}");
}
