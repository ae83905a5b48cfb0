//! Makes a failing schedule small: delta debugging over its steps.

use crate::judge::judge;
use crate::run::run;
use crate::schedule::Schedule;

/// Runs that one shrinking takes at most: about ten seconds.
const RUNS: usize = 600;

/// The first violation of a schedule.
pub(crate) fn violation(schedule: &Schedule) -> Option<String> {
    judge(&run(schedule)).violations.into_iter().next()
}

/// A part of a failing schedule that still fails, from which no step can be left out.
pub(crate) fn shrink(schedule: &Schedule) -> Schedule {
    let mut small = schedule.clone();
    let mut runs = 0;
    let mut size = small.steps.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        let mut smaller = false;
        while from < small.steps.len() && runs < RUNS {
            let mut without = small.clone();
            without
                .steps
                .drain(from..(from + size).min(small.steps.len()));
            runs += 1;
            if violation(&without).is_some() {
                small = without;
                smaller = true;
            } else {
                from += size;
            }
        }
        if !smaller || runs >= RUNS {
            size /= 2;
        }
    }
    small
}
